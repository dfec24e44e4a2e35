# One of the machines of a network over real links: the others differ by `id` alone.
let
  id = 0;
in
{
  services.apollo-network-benchmark = {
    # The same secret on every machine: only who has it starts and ends runs.
    tokenFile = "/run/keys/apollo-network-benchmark-token";
    peers = [
      {
        id = 0;
        address = "192.0.2.10";
      }
      {
        id = 1;
        address = "192.0.2.11";
      }
      {
        id = 2;
        address = "192.0.2.12";
      }
    ];
    nodes.node = {
      inherit id;
      openFirewall = true;
      settings = {
        mode = "one";
        broadcaster = 0;
        message-size-bytes = 65536;
        heartbeat-millis = 20;
        probe-port = 9999;
      };
    };
    # 40 ms and 50 MB/s at the interface that leads to the others.
    shaping.eth0 = {
      latency = 40;
      throughput = 50000;
    };
    # This machine sees them all.
    monitoring = {
      enable = id == 0;
      nodeExporter = {
        enable = true;
        openFirewall = true;
        scrape = true;
      };
    };
    # The links are measured before and after the hour.
    runs.hour.settings = {
      timeout = 3600;
      latency = 40;
      throughput = 50000;
    };
  };
}
