# Programs of `nix run`: the benchmark with all its optional tools on its PATH, and the flake's own image.
{ pkgs, built }:
let
  inherit (pkgs) lib;
  inherit (built) packages;
  app =
    name: words: description:
    let
      script = pkgs.writeShellApplication {
        inherit name;
        runtimeInputs = [
          pkgs.iproute2
          pkgs.prometheus
          pkgs.grafana
          pkgs.skopeo
        ];
        # Program that streams the image for `docker load`; --image and --fast-docker take precedence.
        runtimeEnv.APOLLO_BENCH_IMAGE_STREAM = "${packages.image.imageName}:${packages.image.imageTag}=${packages.image}";
        text = ''exec ${lib.getExe packages.default} ${words} "$@"'';
      };
    in
    {
      type = "app";
      program = lib.getExe script;
      meta = { inherit description; };
    };
in
{
  default = app "apollo-bench" "" "The benchmark and its lab";
  local = app "local" "local" "Run a network of nodes on this machine and measure it";
  node = app "node" "node" "Run one node";
  cluster-start = app "cluster-start" "cluster start" "Start a run in a Kubernetes cluster";
  cluster-stop = app "cluster-stop" "cluster stop" "Remove a run from a Kubernetes cluster";
  cluster-logs = app "cluster-logs" "cluster logs" "Follow the logs of all nodes of a run";
  cluster-port-forward =
    app "cluster-port-forward" "cluster port-forward"
      "Open Prometheus and Grafana of a run on this machine";
}
