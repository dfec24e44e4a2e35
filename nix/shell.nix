# Everything that is needed to work on the project; the versions of Rust's tools are those of nixpkgs.
{ pkgs, built }:
{
  default = built.craneLib.devShell {
    packages = [
      pkgs.cargo-deny
      pkgs.cargo-nextest
      pkgs.rust-analyzer
      pkgs.deadnix
      pkgs.nixfmt
      pkgs.iproute2
      pkgs.prometheus
      pkgs.grafana
      pkgs.kubectl
      pkgs.skopeo
    ];
  };
}
