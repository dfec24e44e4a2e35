# Machines as an operator sets them up with the modules: nodes, measured shaped links, collected runs.
{ network, ... }:
network.test {
  name = "bare-metal";
  numNodes = 3;
  shaping.latency = 100;
  settings = {
    network-protocol = "sqmr";
    probe-port = 9999;
  };
  settingsOfRun = {
    latency = 100;
    # Emulated processors add to the latency.
    tolerance-millis = 60;
  };
  script = ''
    with subtest("links are measured before and after, and found as they are asked for"):
        run = measure()
        delivered_all(run)
        assert run["links"]["valid"], run["links"]
        assert len(run["links"]["links"]) == len(nodes) * (len(nodes) - 1), run["links"]

    with subtest("the services go on for the next run"):
        anew()
        delivered_all(measure())

    with subtest("a node's service has no rights"):
        exposure = node1.succeed("systemd-analyze security --no-pager ${network.service}-node.service | tail -n 1")
        print(exposure)
        rights = node1.succeed("systemctl show -P CapabilityBoundingSet ${network.service}-node.service").strip()
        assert rights == "", rights
        node1.succeed("test -s /var/lib/${network.service}-node/summary.json")
  '';
}
