//! Compiles the revision and the date of the sources in, where they are known: from the environment, or from git.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=APOLLO_BENCH_REVISION");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/index");
    let revision = std::env::var("APOLLO_BENCH_REVISION")
        .ok()
        .or_else(|| git(&["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]));
    let date = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|seconds| seconds.trim().parse().ok())
        .map(date)
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

/// The day of an instant, in UTC: Howard Hinnant's `civil_from_days`,
/// <https://howardhinnant.github.io/date_algorithms.html>.
fn date(unix_seconds: u32) -> String {
    let day = i64::from(unix_seconds) / 86_400 + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}
