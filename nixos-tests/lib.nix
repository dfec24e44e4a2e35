# A network of machines with a node each, one of which also makes the run, and the helper functions of the tests.
{
  self,
  pkgs,
  lib,
}:
let
  service = "apollo-network-benchmark";
  packages = self.packages.${pkgs.stdenv.hostPlatform.system};

  run = "${service}-run-measured.service";

  # The same token on every machine; it need not be secret, because these machines see no other network.
  token = "a-token-of-these-tests-alone";
  # A file outside of the store, as an operator would have.
  tokenFile = "/run/apollo-network-benchmark-token";

  # A load that is light enough for emulated machines: few messages, and much patience.
  light = {
    message-size-bytes = 1024;
    heartbeat-millis = 500;
    ready-timeout-seconds = 600;
    verbosity = 3;
  };

  words = numNodes: ''
    import base64
    import io
    import json
    import tarfile

    nodes = [${lib.concatMapStringsSep ", " (id: "node${toString id}") (lib.range 0 (numNodes - 1))}]
    runner = node0

    with_token = "--header 'Authorization: Bearer ${token}'"

    def ready():
        """Waits until every node is connected to all the others."""
        for node in nodes:
            node.wait_for_unit("${service}-node.service")
        for node in nodes:
            node.wait_until_succeeds("curl --silent --show-error --fail http://127.0.0.1:2000/readyz", timeout=600)
        set_clocks()

    def set_clocks():
        """Sets every clock to that of the first machine, as NTP does: a runner refuses clocks that differ."""
        first = node0.succeed("ip -4 -o address show dev eth1").split()[3].split("/")[0]
        for node in nodes[1:]:
            # The shell itself does all but the last step, because starting a program takes long on an emulated machine.
            node.succeed(
                f"exec 3<>/dev/tcp/{first}/2000; "
                "before=''${EPOCHREALTIME/./}; "
                "printf 'GET /clock HTTP/1.0\\r\\nHost: localhost\\r\\nAuthorization: Bearer ${token}\\r\\n\\r\\n' >&3; "
                "while read -r line <&3; do case $line in *unix_nanos*) break;; esac; done; "
                "after=''${EPOCHREALTIME/./}; "
                "[[ $line =~ unix_nanos\\\":\\ ?([0-9]+) ]]; "
                "now=$((BASH_REMATCH[1] / 1000 + (after - before) / 2)); "
                "date --set=@$((now / 1000000)).$(printf %06d $((now % 1000000)))"
            )

    def anew():
        """Waits until every node has a new life, in which it was not started."""
        for node in nodes:
            node.wait_until_succeeds(
                f"curl --silent --fail {with_token} http://127.0.0.1:2000/summary | grep -E '\"start\": ?null'", timeout=300
            )
        ready()

    def keep(machine, folder):
        """Leaves a folder of a machine in the result of the test."""
        if machine.execute("mountpoint --quiet /tmp/shared")[0] == 0:
            machine.copy_from_machine(folder)
            return
        # Some drivers share no folder with the machine; then the archive comes through the shell.
        archive = machine.succeed(f"tar --create --gzip --directory $(dirname {folder}) $(basename {folder}) | base64")
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(archive))) as files:
            files.extractall(machine.out_dir, filter="data")

    def result():
        """The result of the newest run, which is copied out of the machine with all its files."""
        folder = runner.succeed("ls -d /var/lib/${service}-runs/*/ | tail -n 1").strip().rstrip("/")
        keep(runner, folder)
        run = json.loads(runner.succeed(f"cat {folder}/summary.json"))
        print(json.dumps({"verdict": run["verdict"], "totals": {k: v for k, v in (run["totals"] or {}).items() if not isinstance(v, dict)}}))
        return run

    def measure():
        """Makes a run, and gives its result."""
        ready()
        status, _ = runner.execute("systemctl start ${run}", timeout=900)
        print(runner.succeed("journalctl --no-pager --output cat --unit ${run} | tail -n 40"))
        run = result()
        assert run["verdict"]["valid"], run["verdict"]
        assert status == 0, status
        return run

    def delivered_all(run):
        """Every message that was sent has reached every other node, once."""
        totals = run["totals"]
        assert totals["sent"] > 0, totals
        assert totals["expected"] == totals["intended"] * (len(nodes) - 1), totals
        assert totals["delivered"] == totals["sent"] * (len(nodes) - 1), totals

    def slowest(delay):
        """Largest delay in microseconds; of a message that never came, the time that it was waited for."""
        last = delay["quantiles"][-1]
        return last["at_least_micros"] if last["value_micros"] is None else last["value_micros"]

    def median_delay_millis(run):
        """Median time from a message's intended sending to its arrival."""
        return run["totals"]["network_delay"]["p50_micros"] / 1000

  '';
in
{
  inherit service run;
  program = packages.default;
  inherit (packages) image;

  # name; settings of every node; shaping of the interface between the machines; additional settings of each machine;
  # the script.
  test =
    {
      name,
      numNodes ? 3,
      settings ? { },
      shaping ? null,
      settingsOfRun ? { },
      extra ? (_id: { }),
      script,
    }:
    pkgs.testers.runNixOSTest (
      { config, ... }:
      {
        inherit name;
        globalTimeout = 3600;
        nodes = lib.listToAttrs (
          map (
            id:
            lib.nameValuePair "node${toString id}" {
              imports = [
                self.nixosModules.default
                (extra id)
              ];
              virtualisation.memorySize = 512;
              environment.systemPackages = [
                pkgs.curl
                pkgs.iproute2
              ];
              systemd.tmpfiles.rules = [ "f ${tokenFile} 0600 root root - ${token}" ];
              services.${service} = {
                inherit tokenFile;
                peers = map (peer: {
                  id = peer;
                  address = config.nodes."node${toString peer}".networking.primaryIPAddress;
                }) (lib.range 0 (numNodes - 1));
                nodes.node = {
                  inherit id;
                  openFirewall = true;
                  settings = light // settings;
                };
                shaping = lib.mkIf (shaping != null) { eth1 = shaping; };
                runs = lib.mkIf (id == 0) {
                  measured.settings = {
                    timeout = 20;
                    warm-up-seconds = 5;
                    drain-seconds = 60;
                    ready-timeout-seconds = 600;
                    hang-timeout-seconds = 120;
                  }
                  // settingsOfRun;
                };
              };
            }
          ) (lib.range 0 (numNodes - 1))
        );
        testScript =
          words numNodes
          + ''
            start_all()
          ''
          + script;
      }
    );
}
