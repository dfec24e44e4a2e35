# Flags of a node as options. Other flags can be given too, because the settings are freeform.
{ lib }:
let
  inherit (lib) mkOption types;
  given =
    type: default: description:
    mkOption { inherit type default description; };
  maybe = type: description: given (types.nullOr type) null description;
  natural = types.ints.unsigned;
  positive = types.ints.positive;
in
{
  mode = given (types.enum [
    "all"
    "one"
    "rr"
    "explore"
  ]) "all" "Schedule of the broadcasts: every node, one node, turns, or trials.";
  network-protocol = given (types.enum [
    "gossipsub"
    "sqmr"
    "reversed-sqmr"
    "propeller"
  ]) "gossipsub" "Protocol that carries the broadcasts.";
  broadcaster = maybe natural "Node that broadcasts, in modes `one` and `explore`.";
  message-size-bytes = given (types.nullOr (
    types.ints.between 36 33554432
  )) 1024 "Size of a whole message.";
  heartbeat-millis =
    given (types.nullOr positive) 100
      "Time between the messages of a sender, in milliseconds.";
  send-phase =
    given
      (types.enum [
        "aligned"
        "spread"
      ])
      "spread"
      "Offset of each node's schedule in mode `all`: none, or a seeded fraction of the heartbeat.";
  seed = maybe natural "Seed of every random choice, such as the offsets; the same for all nodes.";
  round-duration-seconds = maybe positive "Length of a node's turn, in mode `rr`.";
  explore-cool-down-duration-seconds = maybe natural "Pause before each trial of mode `explore`.";
  explore-run-duration-seconds = maybe positive "Length of each trial of mode `explore`.";
  explore-min-throughput-byte-per-seconds = maybe types.number "Trials below this throughput are left out.";
  explore-min-message-size-bytes = maybe natural "Trials with smaller messages are left out.";
  buffer-size =
    given (types.ints.between 1 10000000) 100000
      "Maximum number of messages in each queue.";
  timeout =
    given (types.ints.between 1 31622400) 31622400
      "Seconds after which the node ends by itself.";
  verbosity =
    given (types.ints.between 0 5) 2
      "Log level: 0 none, 1 error, 2 warn, 3 info, 4 debug, 5 trace.";
  queue-bytes = maybe positive "Maximum number of bytes that wait for one peer.";
  gossipsub-metrics = given types.bool false "Export the metrics of libp2p's own gossipsub too.";
  tokio-metrics = given types.bool false "Export the metrics of the network's tokio runtime too.";
  gossipsub-mesh-n = maybe positive "Number of peers that the mesh aims for.";
  gossipsub-mesh-n-low = maybe positive "Minimum number of peers in the mesh.";
  gossipsub-mesh-n-high = maybe positive "Maximum number of peers in the mesh.";
  gossipsub-mesh-outbound-min = maybe natural "Minimum number of peers in the mesh that this node dialled.";
  gossipsub-heartbeat-millis = maybe positive "Time between gossipsub's own heartbeats, in milliseconds.";
  gossipsub-flood-publish = maybe types.bool "Let a publisher send to all subscribed peers.";
  gossipsub-signing = maybe types.bool "Sign messages, and verify every copy.";
  gossipsub-idontwant-threshold-bytes = maybe natural "Larger messages are announced by IDONTWANT.";
  propeller-stale-seconds = maybe positive "Seconds after which a node gives up a message of propeller.";
  controlled = given types.bool true ''
    Start only at the order of a runner (`apollo-bench remote`, or `runs` on one of the machines). Without it the node starts
    as soon as all its peers are connected.
  '';
  host-names = maybe types.str "More names at which clients may ask the endpoint, separated by commas.";
  start-at-unix-millis = maybe positive "Start at this instant; the same for all nodes.";
  ready-timeout-seconds = maybe positive "Maximum time to wait for the peers, in seconds; traffic then starts with a warning.";
  run-id = maybe natural "Number of the run, the same for all nodes.";
  probe-port = maybe types.port "UDP port at which links are measured.";
  worker-threads = maybe (types.ints.between 1 1024) "Threads that carry the network.";
  log-limit-mib = maybe natural "Stop logging after this many MiB.";
}
