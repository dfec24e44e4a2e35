# Every flag of the node is an option of the module, and every option is a flag.
{
  pkgs,
  packages,
}:
let
  inherit (pkgs) lib;
  # Flags that the module sets by itself.
  own = [
    "bootstrap"
    "config"
    "id"
    "metric-address"
    "metric-port"
    "num-nodes"
    "p2p-address"
    "p2p-port"
    "quic"
    "summary"
    "token-file"
  ];
  # Profilers are for runs by hand.
  left = [
    "check"
    "help"
    "profile-mode"
    "profile-output"
    "version"
  ];
  options = lib.attrNames (import ../modules/settings.nix { inherit lib; }) ++ own ++ left;
in
pkgs.runCommand "options-known" { } ''
  ${packages.default}/bin/broadcast_network_stress_test_node --help |
    sed -n -E 's/^ +(-[a-zA-Z], )?--([a-z0-9-]+).*/\2/p' | sort -u > flags
  printf '%s\n' ${lib.escapeShellArgs options} | sort -u > options
  diff flags options || { echo 'left: flags of the node; right: options of modules/settings.nix'; exit 1; }
  mv flags $out
''
