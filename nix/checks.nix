# What `nix flake check` builds: the lints and tests of the sources, the pages made from the modules, the examples,
# and the tests in virtual machines.
{
  self,
  nixpkgs,
  pkgs,
  built,
}:
let
  inherit (pkgs) lib;
  inherit (built) craneLib checked packages;
in
{
  package = packages.default;
  clippy = craneLib.cargoClippy (
    checked // { cargoClippyExtraArgs = "--workspace --all-targets -- --deny warnings"; }
  );
  doc = craneLib.cargoDoc (
    checked
    // {
      cargoDocExtraArgs = "--no-deps --lib";
      env.RUSTDOCFLAGS = "--deny warnings";
    }
  );
  # Tests of containers, namespaces and browsers need a machine: they are run from a checkout, by scripts/test.
  nextest = craneLib.cargoNextest (checked // { cargoNextestExtraArgs = "--lib --test node"; });
  fmt = craneLib.cargoFmt checked;
  deny =
    (craneLib.overrideScope (_: _: { cargo-deny = import ./deny.nix { inherit craneLib; }; })).cargoDeny
      (checked // { cargoDenyExtraArgs = "--all-features"; });
  options-page = import ./options-page.nix { inherit self pkgs; };
  options-known = import ./options-known.nix { inherit pkgs packages; };
  examples = import ./examples.nix {
    inherit
      self
      nixpkgs
      pkgs
      packages
      ;
  };
}
// import ../nixos-tests { inherit self pkgs lib; }
