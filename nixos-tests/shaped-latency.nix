# The latency of every interface delays messages in both directions.
{ network, ... }:
let
  # Large enough that emulated processors don't matter.
  latency = 300;
in
network.test {
  name = "shaped-latency";
  shaping = { inherit latency; };
  script = ''
    with subtest("a packet takes the latency once in each direction"):
        ready()
        for peer in nodes[1:]:
            address = peer.succeed("ip -4 -o address show dev eth1").split()[3].split("/")[0]
            output = node0.succeed(f"ping -q -c 10 {address}")
            average = float(output.split("=")[1].split("/")[1])
            assert ${toString (2 * latency)} <= average <= ${toString (2 * latency)} * 1.3, output

    with subtest("so do messages"):
        run = measure()
        delivered_all(run)
        delay = median_delay_millis(run)
        assert ${toString latency} <= delay <= ${toString (3 * latency)}, delay

    with subtest("the unit takes the shape away, and no node runs without it"):
        node1.succeed("systemctl stop ${network.service}-shaping-eth1.service")
        node1.succeed("! tc qdisc show dev eth1 | grep netem")
        node1.fail("systemctl is-active --quiet ${network.service}-node.service")

    with subtest("and puts it there again"):
        node1.succeed("systemctl start ${network.service}-node.service")
        node1.succeed("tc qdisc show dev eth1 | grep netem")
        ready()
  '';
}
