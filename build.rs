//! Compiles the revision of the sources in, where it is known: from the environment, or from git.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=APOLLO_BENCH_REVISION");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/index");
    let given = std::env::var("APOLLO_BENCH_REVISION").ok();
    if let Some(revision) = given.or_else(from_git) {
        println!("cargo::rustc-env=APOLLO_BENCH_REVISION={revision}");
    }
}

fn from_git() -> Option<String> {
    let output =
        Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
