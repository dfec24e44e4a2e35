{
  description = "Measure a libp2p network under load: its throughput, its delays to all nodes, and its first point of failure";

  inputs = {
    nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
    crane.url = "github:ipetkov/crane";
  };

  outputs =
    {
      self,
      nixpkgs,
      crane,
    }:
    let
      inherit (nixpkgs) lib;
      build = pkgs: import ./nix/packages.nix { inherit self crane pkgs; };
      perSystem = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ] (
        system:
        let
          pkgs = nixpkgs.legacyPackages.${system};
          built = build pkgs;
        in
        {
          inherit (built) packages;
          apps = import ./nix/apps.nix { inherit pkgs built; };
          checks = import ./nix/checks.nix {
            inherit
              self
              nixpkgs
              pkgs
              built
              ;
          };
          devShells = import ./nix/shell.nix { inherit pkgs built; };
          formatter = pkgs.nixfmt-tree;
        }
      );
      each = name: lib.mapAttrs (_: outputs: outputs.${name}) perSystem;
    in
    {
      packages = each "packages";
      apps = each "apps";
      checks = each "checks";
      devShells = each "devShells";
      formatter = each "formatter";
      overlays.default = final: _: { apollo-network-benchmark = (build final).packages.default; };
      nixosModules = import ./modules { inherit self; };
    };
}
