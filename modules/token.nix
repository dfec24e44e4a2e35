# Secret that controlled nodes and their runs share.
{ lib, config, ... }:
let
  cfg = config.services.apollo-network-benchmark;
  folder = "apollo-network-benchmark-token";
  made = "/var/lib/${folder}/token";
  # The modules that define them may not be imported.
  controlled = lib.any (node: node.enable && node.settings.controlled) (
    lib.attrValues (cfg.nodes or { })
  );
  used = controlled || (cfg.runs or { }) != { };
in
{
  options.services.apollo-network-benchmark = {
    tokenFile = lib.mkOption {
      type = lib.types.nullOr lib.types.externalPath;
      default = null;
      description = ''
        File, outside of the store, with the secret that controlled nodes and their runs share: 16 to 256 characters, the same
        on every machine of `peers`. Without a file, this machine makes its own secret at the first start, which fits a network
        that is completely on this machine.
      '';
      example = "/run/keys/apollo-network-benchmark-token";
    };
    # Settings of a unit that has the secret as a credential, for the services that need it.
    tokenUnit = lib.mkOption {
      type = lib.types.attrs;
      internal = true;
      readOnly = true;
      description = "Settings of a systemd service that gets the token.";
      default = {
        # systemd replaces %d by the folder of the credentials.
        environment.APOLLO_TOKEN_FILE = "%d/token";
        after = lib.optional (cfg.tokenFile == null) "${folder}.service";
        requires = lib.optional (cfg.tokenFile == null) "${folder}.service";
        serviceConfig.LoadCredential = [
          "token:${if cfg.tokenFile == null then made else cfg.tokenFile}"
        ];
      };
    };
  };

  config.systemd.services.${folder} = lib.mkIf (used && cfg.tokenFile == null) {
    description = "Token of the benchmark network's nodes and runs";
    unitConfig.ConditionPathExists = "!${made}";
    script = ''
      umask 0077
      head --bytes 32 /dev/urandom | base64 --wrap 0 > ${made}.new
      mv ${made}.new ${made}
    '';
    serviceConfig = {
      Type = "oneshot";
      StateDirectory = folder;
      StateDirectoryMode = "0700";
    };
  };
}
