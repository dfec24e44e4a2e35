//! Compiles in the revision and the date of the sources, if they are known: from the environment, or from git.

use std::process::Command;

use jiff::Timestamp;

/// Variables with the date of the sources, in seconds since the Unix epoch, in order of precedence. The second one is
/// the convention of reproducible builds.
const DATES: [&str; 2] = ["APOLLO_BENCH_DATE_EPOCH", "SOURCE_DATE_EPOCH"];

fn main() {
    println!("cargo::rerun-if-env-changed=APOLLO_BENCH_REVISION");
    for name in DATES {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/index");
    let revision = std::env::var("APOLLO_BENCH_REVISION")
        .ok()
        .or_else(|| git(&["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]));
    let date = DATES
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .and_then(|seconds| Timestamp::from_second(seconds.trim().parse().ok()?).ok())
        .map(|time| time.strftime("%F").to_string())
        .or_else(|| git(&["log", "-1", "--format=%cs"]));
    if let Some(revision) = &revision {
        println!("cargo::rustc-env=APOLLO_BENCH_REVISION={revision}");
    }
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let known: Vec<String> = [revision, date].into_iter().flatten().collect();
    let version = if known.is_empty() { version } else { format!("{version} ({})", known.join(", ")) };
    println!("cargo::rustc-env=APOLLO_BENCH_VERSION={version}");
}

fn git(words: &[&str]) -> Option<String> {
    let output = Command::new("git").args(words).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
