# Every flag of the node is an option of the module, and the other way round.
{
  pkgs,
  packages,
}:
let
  inherit (pkgs) lib;
  # What the module fills in by itself.
  own = [
    "bootstrap"
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
  # Profilers are for runs at a desk.
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
