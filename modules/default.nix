# Modules of a NixOS machine. Each can be imported alone; `default` imports all of them.
{ self }:
let
  # Build of the program that is used unless the machine names another one.
  package =
    { pkgs, lib, ... }:
    {
      _file = ./default.nix;
      key = "apollo-network-benchmark-package";
      options.services.apollo-network-benchmark.package = lib.mkOption {
        type = lib.types.package;
        default = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        defaultText = lib.literalExpression "apollo-network-benchmark.packages.\${system}.default";
        description = "Build of the program.";
      };
    };
  with' = module: {
    imports = [
      package
      ./peers.nix
      module
    ];
  };
  modules = {
    node = with' ./node.nix;
    run = with' ./run.nix;
    shaping = with' ./shaping.nix;
    monitoring = with' ./monitoring.nix;
  };
in
modules // { default.imports = builtins.attrValues modules; }
