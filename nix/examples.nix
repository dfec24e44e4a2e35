# Example machines, evaluated completely; the log shows their results.
{
  self,
  nixpkgs,
  pkgs,
  packages,
}:
let
  inherit (pkgs) lib;
  inherit (pkgs.stdenv.hostPlatform) system;
  machine =
    module:
    (nixpkgs.lib.nixosSystem {
      modules = [
        self.nixosModules.default
        module
        {
          nixpkgs.hostPlatform = system;
          # Settings that every real machine has of its own.
          boot.loader.grub.devices = [ "nodev" ];
          fileSystems."/" = {
            device = "/dev/disk/by-label/nixos";
            fsType = "ext4";
          };
          system.stateVersion = "26.05";
        }
      ];
    }).config;
  machines = lib.mapAttrs' (
    name: _: lib.nameValuePair (lib.removeSuffix ".nix" name) (machine (../examples/nixos + "/${name}"))
  ) (builtins.readDir ../examples/nixos);
  # The text is only printed, so nothing in it has to be built.
  told = text: builtins.unsafeDiscardStringContext text;
  units =
    config:
    lib.concatStrings (
      lib.mapAttrsToList (name: unit: "\n--- ${name}\n${told unit.text}") (
        lib.filterAttrs (name: _: lib.hasPrefix "apollo-network-benchmark" name) config.systemd.units
      )
    );
  monitoring =
    config:
    lib.optionalString config.services.prometheus.enable ''

      --- Prometheus, scrape_configs
      ${told (
        builtins.toJSON (
          map (lib.filterAttrsRecursive (
            _: value: value != null && value != [ ]
          )) config.services.prometheus.scrapeConfigs
        )
      )}
      --- Prometheus, rule_files
      ${told (toString config.services.prometheus.ruleFiles)}
      --- Grafana, settings
      ${told (
        builtins.toJSON {
          inherit (config.services.grafana.settings)
            server
            security
            "auth.anonymous"
            analytics
            ;
        }
      )}
      --- Grafana, data sources
      ${told (builtins.toJSON config.services.grafana.provision.datasources.settings)}
      --- Grafana, dashboards
      ${told (builtins.toJSON config.services.grafana.provision.dashboards.settings)}
    '';
  nodes =
    config:
    let
      starts = map (service: toString (service.serviceConfig.ExecStart or "")) (
        lib.attrValues config.systemd.services
      );
    in
    map (start: "${told start} --check\n") (
      lib.filter (lib.hasInfix "/bin/broadcast_network_stress_test_node") starts
    );
  tell =
    name: config:
    assert lib.assertMsg (lib.all (item: item.assertion) config.assertions) (
      "examples/nixos/${name}.nix: "
      + lib.concatMapStringsSep "; " (item: item.message) (
        lib.filter (item: !item.assertion) config.assertions
      )
    );
    "\n=== ${name}: ${told config.system.build.toplevel.drvPath}\n" + units config + monitoring config;
in
pkgs.runCommand "examples"
  {
    # The units start the program that is built here.
    nativeBuildInputs = [ packages.default ];
    checks = lib.concatStrings (lib.concatMap nodes (lib.attrValues machines));
    text = lib.concatStrings (lib.mapAttrsToList tell machines);
    passAsFile = [
      "text"
      "checks"
    ];
  }
  ''
    cat "$textPath"
    # The program itself checks the settings of every node.
    bash -e "$checksPath"
    cp "$textPath" $out
  ''
