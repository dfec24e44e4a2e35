# Tests in virtual machines, each a check of the flake.
{
  self,
  pkgs,
  lib,
}:
let
  network = import ./lib.nix { inherit self pkgs lib; };
  test = file: import file { inherit network pkgs lib; };
  broadcast =
    settings:
    network.test {
      name = settings.network-protocol + "-" + settings.mode;
      inherit settings;
      script = ''
        with subtest("every message reaches every other node"):
            run = measure()
            delivered_all(run)
      '';
    };
in
{
  vm-gossipsub-all = broadcast {
    mode = "all";
    network-protocol = "gossipsub";
  };
  vm-sqmr-all = broadcast {
    mode = "all";
    network-protocol = "sqmr";
  };
  vm-reversed-sqmr-all = broadcast {
    mode = "all";
    network-protocol = "reversed-sqmr";
  };
  vm-propeller-all = broadcast {
    mode = "all";
    network-protocol = "propeller";
  };
  vm-gossipsub-one = broadcast {
    mode = "one";
    network-protocol = "gossipsub";
    broadcaster = 0;
  };
  vm-gossipsub-rr = broadcast {
    mode = "rr";
    network-protocol = "gossipsub";
    round-duration-seconds = 3;
  };
  vm-explore = test ./explore.nix;
  vm-shaped-latency = test ./shaped-latency.nix;
  vm-shaped-throughput = test ./shaped-throughput.nix;
  vm-shaped-loss = test ./shaped-loss.nix;
  vm-partition = test ./partition.nix;
  vm-node-crash = test ./node-crash.nix;
  vm-observability = test ./observability.nix;
  vm-image = test ./image.nix;
  vm-bare-metal = test ./bare-metal.nix;
}
