# The container image in a container runtime.
{
  network,
  lib,
  ...
}:
network.test {
  name = "image";
  extra =
    id:
    lib.optionalAttrs (id == 0) {
      virtualisation = {
        docker.enable = true;
        memorySize = lib.mkForce 2048;
        diskSize = 4096;
      };
      system.extraDependencies = [ network.image ];
      environment.systemPackages = [ network.program ];
    };
  script = ''
    with subtest("the image is taken by the runtime and runs as nobody"):
        node0.wait_for_unit("docker.service")
        node0.succeed("${network.image} | docker load")
        node0.succeed("docker run --rm --read-only --cap-drop=ALL ${network.image.imageName}:${network.image.imageTag} --version")
        user = node0.succeed("docker inspect --format '{{.Config.User}}' ${network.image.imageName}:${network.image.imageTag}").strip()
        assert user == "65534:65534", user

    with subtest("a network of containers delivers everything"):
        node0.succeed(
            "apollo-bench local --docker --image ${network.image.imageName}:${network.image.imageTag}"
            " --base-metric-port 4000 --timeout 10 --output /tmp/containers",
            timeout=600,
        )
        keep(node0, "/tmp/containers")
        totals = json.loads(node0.succeed("cat /tmp/containers/summary.json"))["totals"]
        assert totals["delivered"] == totals["sent"] * 2 > 0, totals
        assert totals["expected"] == totals["intended"] * 2, totals
  '';
}
