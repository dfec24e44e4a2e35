# Shaped interfaces: latency, jitter, loss and throughput of their traffic.
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
  interfaces = lib.filterAttrs (_: shape: shape.enable) cfg.shaping;
  quantity =
    description:
    mkOption {
      type = types.nullOr (types.addCheck types.number (value: value >= 0));
      default = null;
      inherit description;
    };
  flags = {
    latency = quantity "One-way latency of outbound packets, in milliseconds.";
    jitter = quantity "Maximum difference of a packet's latency, in milliseconds.";
    loss = quantity "Percent of the packets that are lost.";
    duplicate = quantity "Percent of the packets that arrive twice.";
    reorder = quantity "Percent of the packets that overtake others.";
    throughput = quantity "Maximum kilobytes (1000 bytes) per second, out and in.";
  };
  shape = {
    options = flags // {
      enable = lib.mkEnableOption "shaping of this interface" // {
        default = true;
      };
      egress = mkOption {
        type = types.submodule { options = flags; };
        default = { };
        description = "Shape of outbound packets, instead of the values above.";
        example = {
          latency = 80;
        };
      };
      ingress = mkOption {
        type = types.submodule { options = flags; };
        default = { };
        description = "Shape of inbound packets; by default only `throughput` applies to them.";
        example = {
          latency = 20;
          loss = 1;
        };
      };
    };
  };
  words =
    values:
    lib.concatStringsSep "," (
      lib.mapAttrsToList (name: value: "${name}=${toString value}") (
        lib.filterAttrs (_: value: value != null) values
      )
    );
  arguments =
    interface: shape:
    [ "--interface=${interface}" ]
    ++ lib.concatMap (
      name: lib.optional (shape.${name} != null) "--${name}=${toString shape.${name}}"
    ) (lib.attrNames flags)
    ++ lib.optional (words shape.egress != "") "--egress=${words shape.egress}"
    ++ lib.optional (words shape.ingress != "") "--ingress=${words shape.ingress}";
  program = "${cfg.package}/bin/apollo-bench shape";
in
{
  options.services.apollo-network-benchmark.shaping = mkOption {
    default = { };
    description = ''
      Interfaces that are shaped, by name. Nodes of this machine start after shaping, and only if it succeeded. Stopping the
      unit `apollo-network-benchmark-shaping-NAME` removes the shape, and stops the nodes.
    '';
    type = types.attrsOf (types.submodule shape);
    example = lib.literalExpression ''
      {
        eth1 = {
          latency = 50;
          throughput = 10000;
        };
      }
    '';
  };

  config = lib.mkIf (interfaces != { }) {
    assertions = lib.concatLists (
      lib.mapAttrsToList (interface: shape: [
        {
          assertion = builtins.length (arguments interface shape) > 1;
          message = "services.apollo-network-benchmark.shaping.${interface}: nothing to shape: give it latency or throughput";
        }
        {
          assertion = shape.latency != null || (shape.jitter == null && shape.reorder == null);
          message = "services.apollo-network-benchmark.shaping.${interface}: jitter and reorder are of a latency, which is not given";
        }
      ]) interfaces
    );

    environment.systemPackages = [ cfg.package ];

    boot.kernelModules = [
      "cls_u32"
      "act_mirred"
      "ifb"
      "sch_htb"
      "sch_ingress"
      "sch_netem"
      "sch_tbf"
    ];

    systemd.services = lib.mapAttrs' (
      interface: shape:
      let
        # Some interfaces appear late, and some disappear and return.
        device = "sys-subsystem-net-devices-${utils.escapeSystemdPath interface}.device";
      in
      lib.nameValuePair "apollo-network-benchmark-shaping-${interface}" {
        description = "Shape of ${interface}";
        documentation = [ "man:apollo-bench-shape(1)" ];
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [
          "network-online.target"
          device
        ];
        bindsTo = [ device ];
        path = [
          pkgs.iproute2
          pkgs.kmod
        ];
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${program} ${utils.escapeSystemdExecArgs (arguments interface shape)}";
          ExecStop = "${program} ${
            utils.escapeSystemdExecArgs [
              "--interface=${interface}"
              "--remove"
            ]
          }";
          # Root, but only with rights for the network.
          CapabilityBoundingSet = [
            "CAP_NET_ADMIN"
            "CAP_SYS_MODULE"
          ];
          NoNewPrivileges = true;
          PrivateTmp = true;
          ProtectHome = true;
          ProtectSystem = "strict";
          RestrictAddressFamilies = [
            "AF_INET"
            "AF_INET6"
            "AF_NETLINK"
            "AF_UNIX"
          ];
        };
      }
    ) interfaces;
  };
}
