//! Reports of real runs, and of folders that older versions have left.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use browser::{Browser, LOW_CONTRAST};
use serde_json::{Value, json};
use support::{BENCH, Lab, Running, get, skip, wait_for};

/// Folders of runs that earlier versions have left.
const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");

/// Text that would do harm if a page took it for HTML.
const HOSTILE: &str = "</style></pre><img src=x onerror=alert(1)><script>alert(2)</script>";

/// Facts that a reader with a screen reader needs and does not find.
const UNTOLD: &str = "
    const all = (selector) => [...document.querySelectorAll(selector)];
    const missing = [];
    all('table').filter((table) => !table.caption?.textContent).forEach((table) => missing.push('a caption'));
    all('th').filter((th) => !th.scope).forEach((th) => missing.push('scope of ' + th.textContent));
    all('svg').filter((svg) => svg.getAttribute('role') !== 'img' || !svg.querySelector('title')?.textContent
        || !svg.querySelector('desc')?.textContent).forEach((svg) => missing.push(svg.outerHTML.slice(0, 200)));
    for (const landmark of ['header', 'main', 'h1', 'title']) {
        if (all(`:not(svg) > ${landmark}`).length !== 1) missing.push(landmark);
    }
    const levels = all('h1, h2, h3').map((heading) => Number(heading.tagName[1]));
    if (levels.some((level, index) => index > 0 && level > levels[index - 1] + 1 && level !== 3)) missing.push('a heading');
    return missing;";

fn bench(args: &[&str]) -> Output {
    Command::new(BENCH).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Writes the report of folders, and returns the exit code and the page.
fn report(folders: &[&Path], page: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(BENCH);
    let output = command.arg("report").args(folders).arg("--output").arg(page).output().unwrap();
    let html = fs::read_to_string(page).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
    (output.status.code(), html)
}

/// The parts of a page that a browser would load or run.
fn assert_harmless(html: &str) {
    let rest = html.replace("http://www.w3.org/2000/svg", "");
    for forbidden in
        ["<script", "<img", "<link", "<iframe", "<object", " onerror=alert(1)>", " src=", "url(", "@import"]
    {
        // A text of the run may contain these characters, but no tag.
        let tags = rest.split('<').skip(1).map(|tag| format!("<{}", tag.split('>').next().unwrap_or_default()));
        assert!(tags.into_iter().all(|tag| !tag.contains(forbidden)), "the page has {forbidden}");
    }
    assert!(html.contains("content=\"default-src 'none'; style-src 'sha256-"), "{}", &html[..600]);
}

#[test]
fn a_browser_shows_the_report_of_a_run_with_faults_without_a_request_or_a_message() {
    let lab = Lab {
        folder: tempfile::Builder::new().prefix("<img src=x onerror=document.title=1>").tempdir().unwrap(),
        ..Lab::new(3)
    };
    let mut command = lab.command("--timeout 5 --heartbeat-millis 20");
    let output = command.args(["--fault", "2s pause 1", "--fault", "3s resume 1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    // Without --output, the page is in the folder of the run, and the result is printed as before.
    let folder = lab.output();
    let output = bench(&["report", folder.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = folder.join("report.html");
    assert!(text(&output.stdout).contains(&format!("The report is {}", page.display())), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("The run is valid."));
    let html = fs::read_to_string(&page).unwrap();
    assert_harmless(&html);
    assert!(html.len() < 500_000, "{}", html.len());

    if !Browser::is_there() {
        return skip("there is no chromium with chromedriver (apt-get install chromium chromium-driver)");
    }
    let browser = Browser::start();
    // A name with characters that an address may have.
    let plain = lab.folder.path().with_file_name(format!("report-{}.html", std::process::id()));
    fs::copy(&page, &plain).unwrap();
    for colours in ["light", "dark"] {
        browser.prefer(colours, false);
        for (screen, width) in [("desktop", 1600), ("phone", 360)] {
            browser.resize(width, 900);
            browser.open(&format!("file://{}", plain.display()));
            assert_eq!(browser.run(LOW_CONTRAST), json!([]), "{colours}, {screen}");
            let wide = browser.run("return document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(u64::from(width)), "{wide} pixels wide on a {screen} of {width}");
            browser.picture(&format!("report-{colours}-{screen}"));
        }
    }
    assert_eq!(browser.run(UNTOLD), json!([]));
    assert!(browser.text(".result").contains("The run is valid."));
    let requests = browser.run("return performance.getEntriesByType('resource').map((entry) => entry.name)");
    assert_eq!(requests, json!([]));
    assert_eq!(browser.run("return [document.images.length, document.scripts.length]"), json!([0, 0]));

    // Both faults are marked in both charts over time, and the phases have their rows.
    assert_eq!(browser.run("return document.querySelectorAll('ol.marks li').length"), json!(4));
    assert!(browser.text("ol.marks").contains("2s pause 1"));
    assert!(browser.text("main").contains("Phases of the window"));
    // The colours of the theme replace those in the charts.
    let line = "return getComputedStyle(document.querySelector('svg polyline')).stroke";
    let dark = browser.run(line);
    browser.prefer("light", false);
    assert_ne!(browser.run(line), dark);
    let printed = browser.command("Page.printToPDF", &json!({ "printBackground": true }));
    assert!(printed["data"].as_str().is_some_and(|data| data.len() > 20_000));
    assert_eq!(browser.console(), Vec::<Value>::new());
    fs::remove_file(plain).unwrap();
}

#[test]
fn a_run_that_was_interrupted_has_a_page_with_the_reason() {
    let lab = Lab::new(2);
    let run = Running::start(&mut lab.command("--timeout 60"));
    wait_for("traffic", || get(lab.metric_port, "/summary").filter(|(_, body)| body.contains("start_unix")));
    run.signal("INT");
    assert_eq!(run.output().status.code(), Some(1));
    let (exit, html) = report(&[&lab.output()], &lab.folder.path().join("page.html"));
    assert_eq!(exit, Some(1));
    assert!(html.contains("The run is INVALID.") && html.contains("interrupted"));
    assert_harmless(&html);
    let shown = bench(&["show", lab.output().to_str().unwrap()]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(text(&shown.stdout).contains("The run is INVALID."));
}

#[test]
fn folders_of_older_versions_are_shown_and_have_a_page() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("run-version-2", "60 of 60 deliveries"),
        ("run-version-3", "Phases of the window"),
        ("run-of-trials", "Delivery ratio, by load"),
    ] {
        let run = Path::new(DATA).join(name);
        let shown = bench(&["show", run.to_str().unwrap()]);
        assert_eq!(shown.status.code(), Some(0), "{name}: {}", text(&shown.stderr));
        assert!(text(&shown.stdout).contains("The run is valid."));
        let (exit, html) = report(&[&run], &folder.path().join("page.html"));
        assert_eq!(exit, Some(0), "{name}");
        assert!(html.contains(content), "{name}");
        assert!(html.contains("the result is that of summary.json"), "{name}");
        assert_harmless(&html);
    }
}

#[test]
fn several_runs_are_side_by_side_and_need_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<PathBuf> = ["run-version-3", "run-version-2"].iter().map(|name| Path::new(DATA).join(name)).collect();
    let refused = Command::new(BENCH).arg("report").args(&runs).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("add --output FILE"), "{}", text(&refused.stderr));
    let both: Vec<&Path> = runs.iter().map(PathBuf::as_path).collect();
    let (exit, html) = report(&both, &folder.path().join("page.html"));
    assert_eq!(exit, Some(0));
    assert!(html.contains("Runs side by side"));
    assert_eq!(html.matches("<details class=\"run\">").count(), 2);
}

#[test]
fn texts_of_a_run_are_never_taken_for_html() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    let path = Path::new(DATA).join("run-version-3/summary.json");
    let mut summary: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    summary["workload"]["scenario"] = json!(HOSTILE);
    summary["verdict"]["warnings"] = json!([HOSTILE, "\u{1b}[2J\u{202e}reversed"]);
    summary["verdict"]["reasons"] = json!([HOSTILE]);
    summary["faults"][0]["fault"] = json!(HOSTILE);
    summary["faults"][0]["seen"] = json!(HOSTILE);
    summary["phases"][1]["events"] = json!([HOSTILE]);
    summary["machines"][0]["processor"] = json!(HOSTILE);
    summary["objectives"] =
        json!([{ "objective": HOSTILE, "value": 0.5, "shown": HOSTILE, "passed": false, "reason": HOSTILE }]);
    for counts in ["dropped", "malformed", "events"] {
        summary[counts] = json!({ HOSTILE: 1 });
    }
    let class = summary["classes"][0].clone();
    summary["classes"] = json!([class, class]);
    summary["classes"][1]["name"] = json!(HOSTILE);
    fs::write(run.join("summary.json"), summary.to_string()).unwrap();
    fs::write(run.join("scenario.toml"), HOSTILE).unwrap();
    fs::write(
        run.join("manifest.json"),
        json!({ "command_line": [HOSTILE], "backend": HOSTILE, "host": { "name": HOSTILE } }).to_string(),
    )
    .unwrap();
    let (_, html) = report(&[run], &run.join("page.html"));
    assert_harmless(&html);
    assert!(html.contains("&lt;script&gt;alert(2)&lt;/script&gt;"));
    assert!(html.contains("\\u202ereversed") && !html.contains('\u{202e}'));
    assert!(html.contains("FAILED"));
    assert_eq!((html.matches("<style>").count(), html.matches("</style>").count()), (1, 1));
}

#[test]
fn a_folder_without_a_result_and_an_unknown_version_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().to_str().unwrap();
    for command in ["show", "report"] {
        let refused = bench(&[command, run]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(text(&refused.stderr).contains("it has no summary.json"), "{}", text(&refused.stderr));
    }
    fs::write(folder.path().join("summary.json"), json!({ "schema_version": 99 }).to_string()).unwrap();
    let refused = bench(&["show", run]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("has version 99 of the schema"), "{}", text(&refused.stderr));
}
