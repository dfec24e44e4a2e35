# Three nodes on one machine, measured by hand or every night, seen in Grafana.
let
  peers =
    map
      (id: {
        inherit id;
        address = "127.0.0.1";
        port = 10000 + id;
        metricPort = 2000 + id;
      })
      [
        0
        1
        2
      ];
in
{
  services.apollo-network-benchmark = {
    inherit peers;
    nodes = builtins.listToAttrs (
      map (peer: {
        name = "node-${toString peer.id}";
        value = {
          inherit (peer) id;
          settings = {
            p2p-address = "127.0.0.1";
            metric-address = "127.0.0.1";
            heartbeat-millis = 10;
          };
        };
      }) peers
    );
    # systemctl start apollo-network-benchmark-run-nightly
    runs.nightly = {
      startAt = "03:00";
      settings.timeout = 600;
    };
    monitoring.enable = true;
  };
}
