# A machine whose cable is unplugged and plugged in again.
{ network, ... }:
network.test {
  name = "partition";
  settingsOfRun = {
    timeout = 60;
    # The runner can't reach the machine either.
    hang-timeout-seconds = 300;
    drain-seconds = 120;
  };
  script = ''
    ready()
    with subtest("a machine is cut off while the others go on"):
        runner.succeed("systemctl start --no-block ${network.run}")
        node1.wait_until_succeeds(f"curl --silent --fail {with_token} http://127.0.0.1:2000/summary | grep -E '\"phase\": ?\"measuring\"'", timeout=300)
        node2.block()
        node1.wait_until_succeeds(f"curl --silent --fail {with_token} http://127.0.0.1:2000/summary | grep -E '\"connected_peers\": ?1'", timeout=300)

    with subtest("it comes back"):
        node2.unblock()
        for node in nodes:
            node.wait_until_succeeds(f"curl --silent --fail {with_token} http://127.0.0.1:2000/summary | grep -E '\"connected_peers\": ?2'", timeout=300)

    with subtest("the run has an end and a result"):
        runner.wait_until_fails("systemctl is-active --quiet ${network.run} || systemctl show -P ActiveState ${network.run} | grep activating", timeout=600)
        run = result()
        assert 0 < run["totals"]["delivered"], run["totals"]
        assert run["verdict"]["reasons"] == [], run["verdict"]
  '';
}
