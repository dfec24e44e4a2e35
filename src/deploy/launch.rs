//! The nodes that a deployment starts.

use crate::{access::RunToken, node::NodeConfig, report::RunFolder, shaping::InterfacePlan};

/// All nodes of a run, and the parameters of their start.
#[derive(Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// Nodes, by id.
    pub(crate) nodes: &'a [NodeConfig],
    /// Plan of each node's interface, in the same order.
    pub(crate) interfaces: &'a [InterfacePlan],
    /// Folder of their logs.
    pub(crate) folder: &'a RunFolder,
    /// Secret that they require for orders.
    pub(crate) token: Option<&'a RunToken>,
}
