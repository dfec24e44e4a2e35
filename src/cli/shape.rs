//! `apollo-bench shape`: applies a plan to an interface, shows it or removes it; or applies it before a command starts.

use std::{ffi::OsString, net::IpAddr, os::unix::process::CommandExt, process::Command};

use clap::Args;
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use super::error::CliError;
use crate::{
    scenario::Shape,
    shaping::{Interface, InterfacePlan, ShapeFlags, ShapingError, remove_leftovers},
    terminal::{say, tell},
};

/// Shapes the traffic of a network interface.
#[derive(Clone, Debug, Args)]
pub(super) struct ShapeArgs {
    /// Name of the interface
    #[arg(long, value_name = "NAME", required_unless_present = "address", conflicts_with = "address")]
    pub(super) interface: Option<String>,
    /// Address of the interface
    #[arg(long, value_name = "IP")]
    pub(super) address: Option<IpAddr>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text")]
    pub(super) flags: ShapeFlags,
    /// Shape of outgoing traffic, instead of the flags above: latency=50,jitter=5,loss=1,throughput=10000
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(super) egress: Option<Shape>,
    /// Shape of incoming traffic; by default only --throughput applies to it
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(super) ingress: Option<Shape>,
    /// The whole plan as JSON, instead of the flags above
    #[arg(long, value_name = "JSON", value_parser = parse_plan, conflicts_with_all = ["egress", "ingress"])]
    pub(super) plan: Option<InterfacePlan>,
    /// Change the plan given here into that of --plan while traffic flows
    #[arg(long, value_name = "JSON", value_parser = parse_plan, requires = "plan", hide = true)]
    pub(super) change_from: Option<InterfacePlan>,
    /// Print the present shape as JSON
    #[arg(long, conflicts_with_all = ["remove", "command"])]
    pub(super) show: bool,
    /// Remove the shape that this command has applied
    #[arg(long, conflicts_with = "command")]
    pub(super) remove: bool,
    /// Become this user and group before the command starts, without any privileges
    #[arg(long, value_name = "UID", requires = "command")]
    pub(super) user: Option<u32>,
    /// Command to become after the interface is shaped: arguments of apollo-bench, or another program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

fn parse_plan(json: &str) -> Result<InterfacePlan, String> {
    let plan: InterfacePlan = serde_json::from_str(json).map_err(|error| error.to_string())?;
    plan.validated().map_err(|error| error.to_string())
}

impl ShapeArgs {
    fn plan(&self) -> Result<InterfacePlan, String> {
        if let Some(plan) = &self.plan {
            return Ok(plan.clone());
        }
        let mut plan = InterfacePlan::symmetric(self.flags.shape().map_err(|error| error.to_string())?);
        plan.egress = self.egress.unwrap_or(plan.egress);
        plan.ingress = self.ingress.unwrap_or(plan.ingress);
        Ok(plan)
    }
}

/// Runs the command. With a command to become, it does not return.
pub(super) fn shape(args: &ShapeArgs) -> Result<(), CliError> {
    carry_out(args).map_err(CliError::Usage)
}

fn carry_out(args: &ShapeArgs) -> Result<(), String> {
    let line = |error: ShapingError| error.to_string();
    let plan = args.plan()?;
    let find = || match (&args.interface, args.address) {
        (Some(name), _) => Interface::named(name),
        (None, Some(address)) => Interface::with_address(address),
        (None, None) => Err(ShapingError::NoInterface("give --interface or --address".into())),
    };
    let interface = || find().map_err(line);
    if args.show {
        let counters = interface()?.counters().map_err(line)?;
        say(&format!("{}\n", serde_json::to_string_pretty(&counters).map_err(|error| error.to_string())?));
        return Ok(());
    }
    if args.remove {
        say(&remove(find()).map_err(line)?);
        return Ok(());
    }
    match &args.change_from {
        Some(before) => interface()?.change(before, &plan).map_err(line)?,
        // An entry point without a shape needs neither `tc` nor privileges.
        None if plan.is_unshaped() && !args.command.is_empty() => {}
        None if plan.is_unshaped() => {
            return Err("nothing to shape: give --latency, --throughput or another of its kind".into());
        }
        None => {
            let interface = interface()?;
            interface.apply(&plan).map_err(line)?;
            tell(&format!("{}: out {}, in {}", interface.name(), plan.egress, plan.ingress));
        }
    }
    let Some((program, rest)) = args.command.split_first() else { return Ok(()) };
    become_user(args.user)?;
    // The program's own subcommands need no path: `-- node --id 0` is this very program.
    let own = ["node", "local"].iter().any(|name| program == *name);
    let mut command = if own {
        let mut command = Command::new(std::env::current_exe().map_err(|error| format!("own program: {error}"))?);
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    let error = command.args(rest).exec();
    // No command uses the interface, so its shape is removed. Without privileges it stays, and ends with its namespace.
    if args.change_from.is_none() && !plan.is_unshaped() {
        let _ = interface().map(|interface| interface.remove());
    }
    Err(format!("{} can't be started: {error}", program.to_string_lossy()))
}

/// Removes the shape, even if the interface no longer exists; returns a line for each part.
fn remove(interface: Result<Interface, ShapingError>) -> Result<String, ShapingError> {
    let (what, leftovers) = match interface {
        Ok(interface) => {
            let removed = interface.remove()?;
            let what = match (removed.egress, removed.ingress) {
                (false, false) => "nothing to remove",
                (true, false) => "outgoing traffic is no longer shaped",
                (false, true) => "incoming traffic is no longer shaped",
                (true, true) => "outgoing and incoming traffic is no longer shaped",
            };
            (format!("{}: {what}", interface.name()), removed.leftovers)
        }
        // The qdiscs were removed with the interface.
        Err(ShapingError::NoInterface(why)) => (format!("{why}: nothing to remove there"), remove_leftovers()?),
        Err(error) => return Err(error),
    };
    let taken: Vec<String> = leftovers
        .iter()
        .map(|name| format!("{name}: remained of an interface that no longer exists, removed\n"))
        .collect();
    Ok(format!("{what}\n{}", taken.concat()))
}

fn become_user(user: Option<u32>) -> Result<(), String> {
    let Some(id) = user else { return Ok(()) };
    let change = || -> nix::Result<()> {
        setgroups(&[])?;
        setgid(Gid::from_raw(id))?;
        setuid(Uid::from_raw(id))
    };
    change().map_err(|error| format!("--user {id}: {error}"))
}
