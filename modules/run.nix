# Runs of this machine over the nodes in `peers`: started by hand or by a timer, each kept in a folder.
{
  lib,
  config,
  utils,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.apollo-network-benchmark;
  folder = "apollo-network-benchmark-runs";
  flag =
    name: value:
    if lib.isBool value then lib.optional value "--${name}" else [ "--${name}=${toString value}" ];
in
{
  imports = [ ./token.nix ];

  options.services.apollo-network-benchmark.runs = mkOption {
    default = { };
    description = ''
      Runs of the network of `peers`. `systemctl start apollo-network-benchmark-run-NAME` makes one, succeeds if it is valid, and
      leaves its folder in `/var/lib/${folder}`, which root can read.
    '';
    type = types.attrsOf (
      types.submodule {
        options = {
          settings = mkOption {
            type = types.attrsOf (
              types.oneOf [
                types.bool
                types.number
                types.str
              ]
            );
            default = { };
            description = "Flags of `apollo-bench remote`, by their names without the dashes.";
            example = {
              timeout = 60;
              warm-up-seconds = 5;
            };
          };
          startAt = mkOption {
            type = types.either types.str (types.listOf types.str);
            default = [ ];
            description = "Times at which systemd starts the run, in the notation of `systemd.time(7)`.";
            example = "daily";
          };
        };
      }
    );
  };

  config = lib.mkIf (cfg.runs != { }) {
    assertions = [
      {
        assertion = cfg.peers != [ ];
        message = "services.apollo-network-benchmark.runs: there is nobody to measure: fill `peers`";
      }
    ];
    environment.systemPackages = [ cfg.package ];
    systemd.services = lib.mapAttrs' (
      name: run:
      lib.nameValuePair "apollo-network-benchmark-run-${name}" {
        description = "Run ${name} of the benchmark network";
        documentation = [ "man:apollo-bench-remote(1)" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ] ++ cfg.tokenUnit.after;
        inherit (cfg.tokenUnit) requires;
        inherit (run) startAt;
        # A new configuration of the machine does not end a run in progress.
        restartIfChanged = false;
        # The default folder of a run is a new one in this directory.
        environment = cfg.tokenUnit.environment // {
          TMPDIR = "/var/lib/${folder}";
        };
        serviceConfig = cfg.tokenUnit.serviceConfig // {
          Type = "oneshot";
          ExecStart = utils.escapeSystemdExecArgs (
            [
              "${cfg.package}/bin/apollo-bench"
              "remote"
            ]
            ++ map (peer: "--node=${peer.endpoint}") cfg.peers
            ++ lib.concatLists (lib.mapAttrsToList flag run.settings)
          );
          DynamicUser = true;
          # One user for all runs, which share the folder.
          User = folder;
          StateDirectory = folder;
          UMask = "0022";
          CapabilityBoundingSet = "";
          NoNewPrivileges = true;
          PrivateDevices = true;
          ProtectHome = true;
          ProtectSystem = "strict";
          RestrictAddressFamilies = [
            "AF_INET"
            "AF_INET6"
            "AF_UNIX"
          ];
        };
      }
    ) cfg.runs;
  };
}
