//! Environment variables of Apollo's own node, which have no prefix.
//!
//! Other programs may set `ID` or `MODE`, and a node that used such a variable by accident would measure another
//! workload than the requested one. So they are read only with `APOLLO_BARE_ENVIRONMENT=1`, which a deployment that was
//! written for Apollo's node can set; the variable with the prefix takes precedence.

use clap::Command;

/// Variable that permits the variables without the prefix.
const SWITCH: &str = "APOLLO_BARE_ENVIRONMENT";

/// Arguments that Apollo's node takes from the environment, and their variables.
const NAMES: [(&str, &str); 18] = [
    ("id", "ID"),
    ("num_nodes", "NUM_NODES"),
    ("metric_port", "METRIC_PORT"),
    ("p2p_port", "P2P_PORT"),
    ("bootstrap", "BOOTSTRAP"),
    ("mode", "MODE"),
    ("network_protocol", "NETWORK_PROTOCOL"),
    ("broadcaster", "BROADCASTER"),
    ("message_size_bytes", "MESSAGE_SIZE_BYTES"),
    ("heartbeat_millis", "HEARTBEAT_MILLIS"),
    ("round_duration_seconds", "ROUND_DURATION_SECONDS"),
    ("explore_cool_down_duration_seconds", "EXPLORE_COOL_DOWN_DURATION_SECONDS"),
    ("explore_run_duration_seconds", "EXPLORE_RUN_DURATION_SECONDS"),
    ("explore_min_throughput_byte_per_seconds", "EXPLORE_MIN_THROUGHPUT_BYTE_PER_SECONDS"),
    ("explore_min_message_size_bytes", "EXPLORE_MIN_MESSAGE_SIZE_BYTES"),
    ("buffer_size", "BUFFER_SIZE"),
    ("timeout", "TIMEOUT"),
    ("verbosity", "VERBOSITY"),
];

/// Command of the node, which also takes the variables without the prefix if the environment permits it.
pub fn with_bare_environment(command: Command) -> Command {
    let is_given = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if std::env::var(SWITCH).as_deref() != Ok("1") {
        return command;
    }
    let bare = NAMES.iter().filter(|(_, name)| is_given(name) && !is_given(&format!("APOLLO_{name}")));
    bare.fold(command, |command, (argument, name)| command.mut_arg(*argument, |known| known.env(*name)))
}
