# Machines of the network: one list for all of them, from which addresses, peer ids and scrape targets follow.
{ lib, config, ... }:
let
  inherit (lib) mkOption types;
  # Peer ids follow from node ids; a unit test compares this table with the sources.
  known = lib.importJSON ./peer-ids.json;
in
{
  options.services.apollo-network-benchmark.peers = mkOption {
    default = [ ];
    description = ''
      All nodes of the network, on all machines; the same list on every machine. The peers of each node, the number of nodes
      and the targets of Prometheus follow from it.
    '';
    example = lib.literalExpression ''
      [
        { id = 0; address = "10.0.0.10"; }
        { id = 1; address = "10.0.0.11"; }
      ]
    '';
    type = types.listOf (
      types.submodule (
        { config, ... }:
        {
          options = {
            id = mkOption {
              type = types.ints.between 0 9999;
              description = "Id of the node, from 0.";
            };
            address = mkOption {
              type = types.str;
              description = "IPv4 or IPv6 address, or name, at which the other nodes reach this node.";
            };
            port = mkOption {
              type = types.port;
              default = 10000;
              description = "Port of the p2p network.";
            };
            metricPort = mkOption {
              type = types.port;
              default = 2000;
              description = "Port of the node's HTTP endpoint.";
            };
            peerId = mkOption {
              type = types.str;
              default =
                if config.id < builtins.length known then
                  builtins.elemAt known config.id
                else
                  throw "services.apollo-network-benchmark.peers: peer ids are known up to node ${
                    toString (builtins.length known - 1)
                  }; give node ${toString config.id} its peerId, which the node logs when it starts";
              defaultText = lib.literalMD "follows from the id";
              description = "Peer id of the node.";
            };
            quic = mkOption {
              type = types.bool;
              default = false;
              description = "Use QUIC in this network.";
            };
            multiaddress = mkOption {
              type = types.str;
              readOnly = true;
              description = "Address of the node in libp2p's notation.";
              default =
                let
                  family =
                    if lib.hasInfix ":" config.address then
                      "ip6"
                    else if builtins.match "[0-9.]+" config.address != null then
                      "ip4"
                    else
                      "dns";
                  transport =
                    if config.quic then "udp/${toString config.port}/quic-v1" else "tcp/${toString config.port}";
                in
                "/${family}/${config.address}/${transport}/p2p/${config.peerId}";
              defaultText = lib.literalMD "follows from the others";
            };
            endpoint = mkOption {
              type = types.str;
              readOnly = true;
              description = "Host and port of the node's HTTP endpoint.";
              default =
                let
                  host = if lib.hasInfix ":" config.address then "[${config.address}]" else config.address;
                in
                "${host}:${toString config.metricPort}";
              defaultText = lib.literalMD "follows from the others";
            };
          };
        }
      )
    );
  };

  config.assertions =
    let
      ids = lib.sort lib.lessThan (map (peer: peer.id) config.services.apollo-network-benchmark.peers);
    in
    [
      {
        assertion = ids == lib.range 0 (builtins.length ids - 1);
        message = "services.apollo-network-benchmark.peers: the ids must be 0, 1, 2 ... once each, and are ${toString ids}";
      }
    ];
}
