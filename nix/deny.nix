# cargo-deny as the tests of a checkout use it: the same version, from the same source.
{ craneLib }:
let
  version = "0.20.2";
  src = craneLib.downloadCargoPackage {
    name = "cargo-deny";
    inherit version;
    source = "registry+https://github.com/rust-lang/crates.io-index";
    checksum = "e528dfcbe739af7ce37a77d3d6df1b29dd6887b1c701d888820c0f16b864f737";
  };
in
craneLib.buildPackage {
  pname = "cargo-deny";
  inherit version src;
  # Its own lock file, because reading it out of the download would make evaluation build something.
  cargoVendorDir = craneLib.vendorCargoDeps { cargoLock = ./cargo-deny.lock; };
  cargoArtifacts = null;
  strictDeps = true;
  doCheck = false;
  meta.mainProgram = "cargo-deny";
}
