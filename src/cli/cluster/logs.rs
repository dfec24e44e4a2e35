//! `apollo-bench cluster logs`: the output of all pods, each line with its pod's name before it.

use tokio::sync::mpsc;

use super::{
    commands::LogsArgs,
    session::{RunThere, interrupts},
};
use crate::{
    cli::error::CliError,
    deploy::kubernetes::names::{COMPONENT_LABEL, JOB},
    kubernetes::{Follow, KubernetesError, LogLine, Read, follow, read},
    terminal::{has_reader, say, tell},
};

/// Lines between the server and the terminal: a slow terminal delays the server, and does not fill this program's
/// memory.
const LINES: usize = 256;

pub(super) async fn logs(args: &LogsArgs) -> Result<(), CliError> {
    let mut interrupt = interrupts()?;
    let there = RunThere::find(&args.connect).await?;
    let mut selector = there.selector();
    if let Some(component) = &args.component {
        selector.push_str(&format!(",{COMPONENT_LABEL}={}", component.component().name()));
    }
    let namespace = there.record.namespace.as_str();
    let (sender, mut lines) = mpsc::channel::<LogLine>(LINES);
    let bringing = async {
        if args.no_follow {
            let what = Read { namespace, selector: &selector, at_once: 1 };
            for (label, why) in read(&there.cluster, &what, sender).await? {
                tell(&format!("{label}: the rest of its log is missing: {why}"));
            }
            return Ok::<_, KubernetesError>(());
        }
        let until = args.component.map_or(JOB, |part| part.component().name());
        follow(&there.cluster, &Follow { namespace, selector: &selector, until }, sender, &tell).await
    };
    let width = 12;
    let printing = async {
        while let Some(line) = lines.recv().await {
            say(&format!("{:<width$} | {}\n", line.label, line.text));
            if !has_reader() {
                return;
            }
        }
    };
    let both = async { tokio::join!(bringing, printing).0 };
    tokio::select! {
        done = both => Ok(done?),
        // The user has read enough.
        _ = interrupt.next() => Ok(()),
    }
}
