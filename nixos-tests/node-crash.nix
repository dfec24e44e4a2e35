# A node that dies in a run makes it invalid, and the reason names it; its service restarts it, and the next run is
# valid.
{ network, ... }:
network.test {
  name = "node-crash";
  settingsOfRun.timeout = 60;
  script = ''
    ready()
    with subtest("a node dies while it is measured"):
        runner.succeed("systemctl start --no-block ${network.run}")
        node2.wait_until_succeeds(f"curl --silent --fail {with_token} http://127.0.0.1:2000/summary | grep -E '\"phase\": ?\"measuring\"'", timeout=300)
        node2.succeed("systemctl kill --signal=SIGKILL ${network.service}-node.service")
        runner.wait_until_succeeds("systemctl is-failed --quiet ${network.run}", timeout=900)

    with subtest("the result says which, and keeps what the others counted"):
        run = result()
        assert not run["verdict"]["valid"], run["verdict"]
        assert any("node 2" in reason for reason in run["verdict"]["reasons"]), run["verdict"]
        assert sum(row["received"] for row in run["nodes"] if row["node"] != 2) > 0, run["nodes"]

    with subtest("its service brings it back, and the next run is whole"):
        assert int(node2.succeed("systemctl show -P NRestarts ${network.service}-node.service")) >= 1
        anew()
        run = measure()
        delivered_all(run)
  '';
}
