//! A benchmark of libp2p networks: the node that broadcasts and receives under load, and the lab around it.
//!
//! Imports point downwards only: [`cluster`] → [`lab`] → [`live`] → [`report`] → [`shaping`] → [`node`] → [`network`] → [`machine`] →
//! [`metrics`] → [`message`]; [`probe`], [`clock`], [`environment`], [`paths`], [`secret`], [`access`], [`open_files`], [`signals`], [`command_line`] and [`terminal`] are
//! below all of them.
//! [`image`] stands beside them: it imports only [`command_line`], [`paths`] and [`terminal`], and may be imported by [`lab`].
//! So does [`dashboards`], which imports only [`metrics`], for its names.
//! [`kubernetes`] knows nothing of the others.

pub mod access;
pub mod clock;
pub mod cluster;
pub mod command_line;
pub mod dashboards;
pub mod environment;
pub mod image;
pub mod kubernetes;
pub mod lab;
pub mod live;
pub mod machine;
pub mod message;
pub mod metrics;
pub mod network;
pub mod node;
pub mod open_files;
pub mod paths;
pub mod probe;
pub mod report;
pub mod scenario;
pub mod secret;
pub mod shaping;
pub mod signals;
pub mod terminal;
