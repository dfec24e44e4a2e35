# Nodes of the benchmark network as services of this machine.
{
  lib,
  config,
  pkgs,
  utils,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.apollo-network-benchmark;
  nodes = lib.filterAttrs (_: node: node.enable) cfg.nodes;
  settings = import ./settings.nix { inherit lib; };

  # `--flag=value`; a switch that is off, and a null value, are left out.
  switches = [
    "quic"
  ]
  ++ lib.attrNames (lib.filterAttrs (_: option: option.type.name == "bool") settings);
  flag =
    name: value:
    if value == null then
      [ ]
    else if lib.elem name switches || (lib.isBool value && !(settings ? ${name})) then
      lib.optional value "--${name}"
    else
      [ "--${name}=${if lib.isBool value then lib.boolToString value else toString value}" ];
  arguments =
    node:
    lib.concatLists (
      lib.mapAttrsToList flag (lib.filterAttrs (name: _: name != "summary") node.settings)
    );

  # The module that defines it may not be imported.
  shaped = map (interface: "apollo-network-benchmark-shaping-${interface}.service") (
    lib.attrNames (lib.filterAttrs (_: shape: shape.enable) (cfg.shaping or { }))
  );

  unit = name: "apollo-network-benchmark-${name}";
  program = "${cfg.package}/bin/broadcast_network_stress_test_node";
  buildCanRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
in
{
  imports = [ ./token.nix ];

  options.services.apollo-network-benchmark.nodes = mkOption {
    default = { };
    description = "Nodes that run on this machine.";
    type = types.attrsOf (
      types.submodule (
        { config, ... }:
        let
          own = lib.findFirst (peer: peer.id == config.id) null cfg.peers;
          # Facts about this node for the other machines.
          fromPeers =
            type: attribute: otherwise: description:
            mkOption {
              inherit type description;
              default = if own == null then otherwise else own.${attribute};
              defaultText = lib.literalMD "that of the node in `peers`, else `${builtins.toJSON otherwise}`";
            };
          listen =
            description:
            mkOption {
              type = types.nullOr types.str;
              # The wildcard address includes IPv4.
              default = if lib.any (peer: lib.hasInfix ":" peer.address) cfg.peers then "::" else null;
              defaultText = lib.literalMD "all addresses; those of IPv6 too where a peer has one";
              inherit description;
            };
        in
        {
          options = {
            enable = lib.mkEnableOption "this node" // {
              default = true;
            };
            id = mkOption {
              type = types.ints.between 0 9999;
              description = "Id of the node; its identity follows from it.";
            };
            openFirewall = mkOption {
              type = types.bool;
              default = false;
              description = ''
                Open the port of the p2p network, that of the HTTP endpoint, and that of `probe-port`. Everybody who reaches the
                endpoint can read the metrics; only requests with the token of `tokenFile` start and end a controlled node.
              '';
            };
            restart = mkOption {
              type = types.enum [
                "always"
                "on-failure"
                "no"
              ];
              default = "always";
              description = ''
                Condition on which systemd starts the node again. A node serves one run; with `always` it is ready for the next.
              '';
            };
            settings = mkOption {
              default = { };
              description = "Flags of the node, by their names without the dashes.";
              type = types.submodule {
                freeformType = types.attrsOf (
                  types.nullOr (
                    types.oneOf [
                      types.bool
                      types.number
                      types.str
                      types.path
                    ]
                  )
                );
                options = settings // {
                  id = mkOption {
                    type = types.ints.between 0 9999;
                    default = config.id;
                    internal = true;
                    description = "Id of the node.";
                  };
                  metric-port = fromPeers types.port "metricPort" 2000 "TCP port of the HTTP endpoint.";
                  p2p-port = fromPeers types.port "port" 10000 "Port of the p2p network.";
                  quic = fromPeers types.bool "quic" false "Use QUIC instead of TCP, noise and yamux.";
                  metric-address = listen "Address that the HTTP endpoint listens on.";
                  p2p-address = listen "Address that the p2p network listens on.";
                  num-nodes = mkOption {
                    type = types.ints.between 1 10000;
                    default = lib.max 1 (builtins.length cfg.peers);
                    defaultText = lib.literalMD "length of `peers`";
                    description = "Number of nodes in the whole network.";
                  };
                  bootstrap = mkOption {
                    type = types.str;
                    default = lib.concatMapStringsSep "," (peer: peer.multiaddress) cfg.peers;
                    defaultText = lib.literalMD "the addresses of `peers`";
                    description = "Addresses of the peers, separated by commas.";
                  };
                };
              };
            };
          };
        }
      )
    );
    example = lib.literalExpression ''
      {
        a = {
          id = 0;
          openFirewall = true;
          settings = {
            mode = "one";
            broadcaster = 0;
            heartbeat-millis = 10;
          };
        };
      }
    '';
  };

  config = lib.mkIf (nodes != { }) {
    assertions =
      let
        socket =
          protocol: address: port:
          "${protocol} ${if address == null then "*" else address}:${toString port}";
        ports = lib.concatMap (
          { settings, ... }:
          [
            (socket "TCP" settings.metric-address settings.metric-port)
            (socket (if settings.quic then "UDP" else "TCP") settings.p2p-address settings.p2p-port)
          ]
          ++ lib.optional (settings.probe-port != null) (
            socket "UDP" settings.p2p-address settings.probe-port
          )
        ) (lib.attrValues nodes);
      in
      [
        {
          assertion = lib.allUnique ports;
          message = "services.apollo-network-benchmark.nodes: two nodes of this machine want the same port: ${lib.concatStringsSep ", " ports}";
        }
        {
          assertion = lib.allUnique (lib.mapAttrsToList (_: node: node.id) nodes);
          message = "services.apollo-network-benchmark.nodes: two nodes of this machine have the same id";
        }
      ];

    systemd.services = lib.mapAttrs' (
      name: node:
      let
        token = lib.optionalAttrs node.settings.controlled cfg.tokenUnit;
      in
      lib.nameValuePair (unit name) {
        description = "Node ${toString node.id} of the benchmark network";
        documentation = [ "man:broadcast_network_stress_test_node(1)" ];
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ] ++ shaped ++ token.after or [ ];
        # On links without their configured shape, measuring makes no sense.
        requires = shaped ++ token.requires or [ ];
        environment = token.environment or { };
        # Many ends in a short time belong to many runs, and are no loop of failures.
        startLimitIntervalSec = 0;
        serviceConfig = token.serviceConfig or { } // {
          ExecStart = utils.escapeSystemdExecArgs (
            [ program ] ++ arguments node ++ [ "--summary=/var/lib/${unit name}/summary.json" ]
          );
          Restart = node.restart;
          RestartSec = 1;
          # A connection for every other node, and some more.
          LimitNOFILE = 65536;
          DynamicUser = true;
          StateDirectory = unit name;
          UMask = "0022";

          # The node needs sockets and its own folder. Its figures come from /proc/stat and /proc/net/snmp.
          AmbientCapabilities = "";
          CapabilityBoundingSet = "";
          NoNewPrivileges = true;
          LockPersonality = true;
          MemoryDenyWriteExecute = true;
          PrivateDevices = true;
          PrivateTmp = true;
          PrivateUsers = true;
          ProcSubset = "all";
          ProtectClock = true;
          ProtectControlGroups = true;
          ProtectHome = true;
          ProtectHostname = true;
          ProtectKernelLogs = true;
          ProtectKernelModules = true;
          ProtectKernelTunables = true;
          ProtectProc = "invisible";
          ProtectSystem = "strict";
          RemoveIPC = true;
          RestrictAddressFamilies = [
            "AF_INET"
            "AF_INET6"
            # libp2p asks the kernel for its addresses through netlink.
            "AF_NETLINK"
          ];
          RestrictNamespaces = true;
          RestrictRealtime = true;
          RestrictSUIDSGID = true;
          SystemCallArchitectures = "native";
          SystemCallFilter = [
            "@system-service"
            "~@privileged"
            "~@resources"
          ];
        };
      }
    ) nodes;

    # Settings that a node would refuse are found when the machine is built.
    system.checks = lib.optionals buildCanRun (
      lib.mapAttrsToList (
        name: node:
        pkgs.runCommand "${unit name}-settings" { } ''
          ${program} --check ${lib.escapeShellArgs (arguments node)}
          touch $out
        ''
      ) nodes
    );

    environment.systemPackages = [ cfg.package ];

    networking.firewall = lib.mkMerge (
      lib.mapAttrsToList (
        _: node:
        lib.mkIf node.openFirewall {
          allowedTCPPorts = [
            node.settings.metric-port
          ]
          ++ lib.optional (!node.settings.quic) node.settings.p2p-port;
          allowedUDPPorts =
            lib.optional node.settings.quic node.settings.p2p-port
            ++ lib.optional (node.settings.probe-port != null) node.settings.probe-port;
        }
      ) nodes
    );
  };
}
