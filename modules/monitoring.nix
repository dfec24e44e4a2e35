# Prometheus and Grafana for the nodes in `peers`, with the project's dashboards, rules and alerts.
{ lib, config, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.apollo-network-benchmark;
  monitoring = cfg.monitoring;
  secretKeyFolder = "apollo-network-benchmark-grafana";
  secretKeyFile =
    if monitoring.grafana.secretKeyFile == null then
      "/var/lib/${secretKeyFolder}/secret-key"
    else
      monitoring.grafana.secretKeyFile;
  address = open: if open then "0.0.0.0" else "127.0.0.1";
in
{
  options.services.apollo-network-benchmark.monitoring = {
    enable = lib.mkEnableOption "Prometheus and Grafana for the benchmark network, on this machine";
    run = mkOption {
      type = types.str;
      default = "nixos";
      description = "Name of the run: the label `run` of every series.";
    };
    scrapeSeconds = mkOption {
      type = types.ints.positive;
      default = 5;
      description = "Seconds between scrapes. The recording rules are made for 5.";
    };
    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Listen on all interfaces, not on the loopback alone, and open the ports. Everybody can then read.";
    };
    nodeExporter = {
      enable = lib.mkEnableOption "node_exporter on this machine";
      openFirewall = mkOption {
        type = types.bool;
        default = false;
        description = "Listen on all interfaces, not on the loopback alone, and open its port, for the machine that scrapes it.";
      };
      scrape = mkOption {
        type = types.bool;
        default = false;
        description = "Let Prometheus scrape node_exporter on every machine of `peers`.";
      };
      port = mkOption {
        type = types.port;
        default = 9100;
        description = "Port of node_exporter, the same on all machines.";
      };
    };
    prometheus.port = mkOption {
      type = types.port;
      default = 9090;
      description = "Port of Prometheus.";
    };
    grafana = {
      enable = lib.mkEnableOption "Grafana" // {
        default = true;
      };
      port = mkOption {
        type = types.port;
        default = 3000;
        description = "Port of Grafana.";
      };
      secretKeyFile = mkOption {
        type = types.nullOr types.externalPath;
        default = null;
        description = ''
          File, outside of the store, with the key that encrypts Grafana's secrets. Without a file, the key is made at the first
          start.
        '';
      };
    };
  };

  config = lib.mkMerge [
    (lib.mkIf monitoring.nodeExporter.enable {
      services.prometheus.exporters.node = {
        enable = true;
        port = monitoring.nodeExporter.port;
        enabledCollectors = [ "tcpstat" ];
        inherit (monitoring.nodeExporter) openFirewall;
        listenAddress = address monitoring.nodeExporter.openFirewall;
      };
    })

    (lib.mkIf monitoring.enable {
      services.prometheus = {
        enable = true;
        listenAddress = address monitoring.openFirewall;
        port = monitoring.prometheus.port;
        globalConfig = {
          scrape_interval = "${toString monitoring.scrapeSeconds}s";
          scrape_timeout = "${toString monitoring.scrapeSeconds}s";
          evaluation_interval = "${toString monitoring.scrapeSeconds}s";
        };
        ruleFiles = [ ../dashboards/rules.yml ];
        scrapeConfigs = [
          {
            # The dashboards and rules use this name and these labels of the nodes.
            job_name = "apollo";
            body_size_limit = "32MB";
            static_configs = map (peer: {
              targets = [ peer.endpoint ];
              labels = {
                inherit (monitoring) run;
                node = toString peer.id;
              };
            }) cfg.peers;
          }
        ]
        ++ lib.optional monitoring.nodeExporter.scrape {
          job_name = "machine";
          static_configs = [
            {
              targets = lib.unique (
                map (
                  peer:
                  let
                    host = if lib.hasInfix ":" peer.address then "[${peer.address}]" else peer.address;
                  in
                  "${host}:${toString monitoring.nodeExporter.port}"
                ) cfg.peers
              );
              labels = { inherit (monitoring) run; };
            }
          ];
        };
      };
      networking.firewall.allowedTCPPorts = lib.mkIf monitoring.openFirewall (
        [ monitoring.prometheus.port ] ++ lib.optional monitoring.grafana.enable monitoring.grafana.port
      );
    })

    (lib.mkIf (monitoring.enable && monitoring.grafana.enable) {
      services.grafana = {
        enable = true;
        # Settings of every Grafana of the project, and this machine's own.
        settings = lib.recursiveUpdate (lib.importJSON ../dashboards/grafana.json) {
          server = {
            http_addr = address monitoring.openFirewall;
            http_port = monitoring.grafana.port;
          };
          security.secret_key = "$__file{${secretKeyFile}}";
          dashboards.default_home_dashboard_path = "${../dashboards/overview.json}";
        };
        provision = {
          enable = true;
          datasources.settings = {
            apiVersion = 1;
            datasources = [
              {
                name = "Prometheus";
                # The dashboards use this name.
                uid = "apollo-prometheus";
                type = "prometheus";
                access = "proxy";
                url = "http://127.0.0.1:${toString monitoring.prometheus.port}";
                isDefault = true;
                editable = false;
                jsonData = {
                  httpMethod = "POST";
                  prometheusType = "Prometheus";
                  timeInterval = "${toString monitoring.scrapeSeconds}s";
                };
              }
            ];
          };
          dashboards.settings = {
            apiVersion = 1;
            providers = [
              {
                name = "apollo";
                type = "file";
                disableDeletion = true;
                allowUiUpdates = false;
                options.path = lib.fileset.toSource {
                  root = ../dashboards;
                  fileset = lib.fileset.unions [
                    ../dashboards/overview.json
                    ../dashboards/nodes.json
                  ];
                };
              }
            ];
          };
        };
      };

      systemd.services.apollo-network-benchmark-grafana-key =
        lib.mkIf (monitoring.grafana.secretKeyFile == null)
          {
            description = "Secret key of Grafana";
            requiredBy = [ "grafana.service" ];
            before = [ "grafana.service" ];
            unitConfig.ConditionPathExists = "!${secretKeyFile}";
            script = ''
              umask 0027
              head --bytes 32 /dev/urandom | base64 --wrap 0 > ${secretKeyFile}.new
              chgrp grafana ${secretKeyFile}.new
              mv ${secretKeyFile}.new ${secretKeyFile}
            '';
            serviceConfig = {
              Type = "oneshot";
              StateDirectory = secretKeyFolder;
              StateDirectoryMode = "0755";
            };
          };
    })
  ];
}
