//! The nodes that a deployment starts.

use crate::{access::RunToken, node::NodeConfig, report::RunFolder, shaping::InterfacePlan};

/// All nodes of a run, and what each of them is started with.
#[derive(Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// The nodes, by id.
    pub(crate) nodes: &'a [NodeConfig],
    /// What is done at each node's interface, in the same order.
    pub(crate) interfaces: &'a [InterfacePlan],
    /// Where their logs go.
    pub(crate) folder: &'a RunFolder,
    /// The secret that they take orders with.
    pub(crate) token: Option<&'a RunToken>,
}
