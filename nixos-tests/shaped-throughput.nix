# An interface with less throughput than the offered load: messages queue, and the received rate is that of the
# interface.
{ network, ... }:
let
  kilobytesPerSecond = 200;
in
network.test {
  name = "shaped-throughput";
  shaping.throughput = kilobytesPerSecond;
  settings = {
    # Every copy comes from the broadcaster, so one interface carries them all.
    network-protocol = "sqmr";
    mode = "one";
    broadcaster = 0;
    message-size-bytes = 50000;
    heartbeat-millis = 250;
  };
  settingsOfRun.drain-seconds = 15;
  script = ''
    with subtest("no more gets through than the interface carries"):
        run = measure()
        totals = run["totals"]
        offered = totals["offered_bytes_per_second"]
        seconds = totals["window_seconds"] + 15
        carried = totals["delivered"] * 50000 / seconds
        assert offered > ${toString (kilobytesPerSecond * 1000)} * 1.5, totals
        assert 0 < carried <= ${toString (kilobytesPerSecond * 1000)} * 1.2, totals
        assert totals["delivered_bytes_per_second"] <= ${
          toString (kilobytesPerSecond * 1000)
        } * 1.2, totals
        assert totals["backlog_at_end"] > 0 and totals["sustained"]["sustained"] is False, totals
        assert slowest(totals["delay"]) > 2_000_000, totals["delay"]
  '';
}
