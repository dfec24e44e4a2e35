# Container image with the two programs, tc and ip, and certificates.
{
  pkgs,
  programs,
  revision,
}:
let
  inherit (pkgs) lib;
  # Only these tools of iproute2, without files that are symbolic links.
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
        # The place of tables for `distribution`, which is never used.
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
# Without a tag: the tag is the hash of the image's content.
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
