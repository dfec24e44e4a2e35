# TCP sends lost packets again: no message is missing, but some are late.
{ network, ... }:
network.test {
  name = "shaped-loss";
  shaping = {
    latency = 50;
    loss = 5;
  };
  settings.heartbeat-millis = 200;
  script = ''
    with subtest("packets are lost and messages are not"):
        run = measure()
        delivered_all(run)
        for node in nodes:
            shape = json.loads(node.succeed("tc -s -j qdisc show dev eth1"))
            dropped = sum(qdisc.get("drops", 0) for qdisc in shape if qdisc["kind"] == "netem")
            assert dropped > 0, shape
        assert slowest(run["totals"]["delay"]) > 200_000, run["totals"]["delay"]
  '';
}
