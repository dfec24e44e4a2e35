# A container image: the two programs, tc and ip, certificates, nothing else.
{
  pkgs,
  programs,
  revision,
}:
let
  inherit (pkgs) lib;
  # Not the whole of iproute2, and no file of it that is only a link.
  tools =
    pkgs.runCommand "tc-and-ip"
      {
        nativeBuildInputs = [ pkgs.removeReferencesTo ];
        disallowedReferences = [ pkgs.iproute2 ];
      }
      ''
        mkdir -p $out/bin
        cp -L ${pkgs.iproute2}/bin/{tc,ip} $out/bin/
        chmod u+w $out/bin/*
        # The place of tables for `distribution`, which is never asked for.
        remove-references-to -t ${pkgs.iproute2} $out/bin/*
      '';
  bin = pkgs.runCommand "bin" { } ''
    mkdir -p $out/bin
    ln -s ${programs}/bin/* ${tools}/bin/* $out/bin/
  '';
  accounts = pkgs.writeTextDir "etc/passwd" ''
    root:x:0:0:root:/:/bin/false
    nobody:x:65534:65534:nobody:/:/bin/false
  '';
  groups = pkgs.writeTextDir "etc/group" ''
    root:x:0:
    nogroup:x:65534:
  '';
  names = pkgs.writeTextDir "etc/nsswitch.conf" ''
    hosts: files dns
  '';
in
# No tag: it is the hash of what is in the image.
pkgs.dockerTools.streamLayeredImage {
  name = "apollo-network-benchmark";
  contents = [
    bin
    accounts
    groups
    names
    pkgs.cacert
  ];
  extraCommands = "mkdir -m 1777 tmp";
  created = "1970-01-01T00:00:01Z";
  config = {
    User = "65534:65534";
    Entrypoint = [ "/bin/apollo-bench" ];
    Cmd = [ "--help" ];
    WorkingDir = "/";
    Env = [
      "PATH=/bin"
      "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt"
    ];
    ExposedPorts = {
      "2000/tcp" = { };
      "10000/tcp" = { };
      "10000/udp" = { };
    };
    Labels = {
      "org.opencontainers.image.title" = "apollo-network-benchmark";
      "org.opencontainers.image.description" = programs.meta.description;
      "org.opencontainers.image.licenses" = "Apache-2.0";
      "org.opencontainers.image.version" = programs.version;
    }
    // lib.optionalAttrs (revision != null) { "org.opencontainers.image.revision" = revision; };
  };
}
