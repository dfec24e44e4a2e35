# Checks of `nix flake check`: lints and tests of the sources, pages made from the modules, examples, and tests in
# virtual machines.
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
  # Tests of containers, namespaces and browsers need a real machine, so scripts/test runs them from a checkout.
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
