//! Results for CI: JUnit's XML, and annotations of GitHub's workflows.

use std::path::Path;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::error::CliError;
use crate::{
    report::{ObjectiveRow, RunSummary},
    terminal::tell,
};

/// Name of the test suite of a run.
const SUITE: &str = "apollo-bench";

/// Text of an objective that was missed.
fn missed(row: &ObjectiveRow) -> String {
    let reason = row.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
    format!("missed objective {}: it is {}{reason}", row.objective, row.shown)
}

fn case(name: String, failure: Option<String>) -> TestCase {
    let status = failure.map_or_else(TestCaseStatus::success, |message| {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status.set_message(message);
        status
    });
    TestCase::new(name, status)
}

/// Writes the verdict and the objectives of a run as test cases.
///
/// # Errors
/// Fails if the file can't be written.
pub(super) fn write_junit(path: &Path, run: &RunSummary) -> Result<(), CliError> {
    let name = run.workload.scenario.clone().unwrap_or_else(|| SUITE.to_owned());
    let mut suite = TestSuite::new(name);
    let reasons = (!run.verdict.valid).then(|| run.verdict.reasons.join("; "));
    suite.add_test_case(case("the run is valid".into(), reasons));
    for row in &run.objectives {
        suite.add_test_case(case(row.objective.clone(), (!row.passed).then(|| missed(row))));
    }
    let mut report = Report::new(SUITE);
    report.add_test_suite(suite);
    let text = report.to_string().map_err(|error| CliError::Failed(format!("--junit: {error}")))?;
    let failed = |error: std::io::Error| CliError::Failed(format!("--junit {}: {error}", path.display()));
    std::fs::write(path, text).map_err(failed)
}

/// A text in a command of a workflow, which ends at the end of its line.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Annotations of a run: an error for each reason against it, and for each objective that it missed.
fn annotations(run: &RunSummary) -> Vec<String> {
    let reasons = run.verdict.reasons.iter().map(|reason| format!("the run is invalid: {reason}"));
    let objectives = run.objectives.iter().filter(|row| !row.passed).map(missed);
    reasons.chain(objectives).map(|line| format!("::error title={SUITE}::{}", escaped(&line))).collect()
}

/// Annotates the workflow in which this program runs, if it runs in one.
pub(super) fn annotate(run: &RunSummary) {
    if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        annotations(run).iter().for_each(|line| tell(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{WorkloadSummary, judge};

    fn run() -> RunSummary {
        let workload = WorkloadSummary { scenario: Some("a <b> & \"c\"".into()), ..WorkloadSummary::default() };
        let mut run = RunSummary::failed(workload, "50 % of\nthe nodes died".into());
        judge(&mut run, &["dropped.x == 0".parse().unwrap()]);
        run
    }

    #[test]
    fn text_of_a_run_stays_in_its_annotation() {
        let lines = annotations(&run());
        assert_eq!(lines[0], "::error title=apollo-bench::the run is invalid: 50 %25 of%0Athe nodes died");
        assert!(lines[1].contains("missed objective dropped.x == 0") && lines.len() == 2, "{lines:?}");
    }

    #[test]
    fn the_verdict_and_every_objective_is_a_test_case() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("junit.xml");
        write_junit(&path, &run()).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.matches("<testcase").count(), 2, "{text}");
        assert_eq!(text.matches("<failure").count(), 2, "{text}");
        assert!(text.contains("a &lt;b&gt; &amp; ") && !text.contains("<b>"), "{text}");
    }
}
