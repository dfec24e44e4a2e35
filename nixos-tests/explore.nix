# Trials of growing throughput, each with a result.
{ network, ... }:
network.test {
  name = "explore";
  settings = {
    mode = "explore";
    broadcaster = 0;
    message-size-bytes = null;
    heartbeat-millis = null;
    explore-cool-down-duration-seconds = 15;
    explore-run-duration-seconds = 5;
    explore-min-message-size-bytes = 4194304;
    explore-min-throughput-byte-per-seconds = 4000000;
  };
  settingsOfRun.timeout = 50;
  script = ''
    with subtest("trials come in ascending order and have a result each"):
        run = measure()
        trials = run["trials"]
        assert trials and run["totals"] is None, run
        throughputs = [t["plan"]["message_size"] / t["plan"]["heartbeat_millis"] for t in trials]
        assert throughputs == sorted(throughputs), throughputs
        assert all(t["intended"] > 0 for t in trials), trials
  '';
}
