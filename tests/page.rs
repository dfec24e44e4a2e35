//! Live page in a real browser, over a real run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/browser.rs"]
mod browser;
mod support;

use browser::{Browser, LOW_CONTRAST};
use serde_json::{Value, json};
use support::{Lab, Running, free_ports, skip, wait_for};

/// Name of a folder that would do harm if the page took it for HTML.
const HOSTILE: &str = "<img src=x onerror=document.title=1>";

/// Facts that a screen reader needs and does not find.
const UNTOLD: &str = "
    const missing = [];
    const all = (selector) => [...document.querySelectorAll(selector)];
    all('table').filter((table) => !table.caption).forEach((table) => missing.push('caption of ' + table.id));
    all('th').filter((th) => !th.scope).forEach((th) => missing.push('scope of ' + th.textContent));
    all('svg').filter((svg) => svg.getAttribute('role') !== 'img' || !svg.getAttribute('aria-label').includes('From '))
        .forEach((svg) => missing.push('text of ' + svg.id));
    all('[aria-labelledby]').filter((it) => !document.getElementById(it.getAttribute('aria-labelledby')))
        .forEach((it) => missing.push('label of ' + it.id));
    if (all('[aria-live]').length !== 1 || all('[aria-live=polite]').length !== 1) missing.push('one live region');
    for (const landmark of ['header', 'main', 'footer', 'h1']) if (all(landmark).length !== 1) missing.push(landmark);
    const levels = all('h1, h2, h3').map((heading) => Number(heading.tagName[1]));
    if (levels.some((level, index) => index > 0 && level > levels[index - 1] + 1)) missing.push('a heading between');
    return missing;";

/// Names of the elements that the tab key reaches, in its order; true for each with a visible focus.
fn tab_stops(browser: &Browser) -> Vec<(String, bool)> {
    let mut stops = vec![];
    browser.run("document.activeElement.blur(); window.scrollTo(0, 0)");
    loop {
        browser.press("\u{e004}");
        let found = browser.run(
            "const it = document.activeElement, style = getComputedStyle(it);
             return [it.id || it.getAttribute('aria-labelledby') || it.tagName,
                     style.outlineStyle === 'solid' && parseFloat(style.outlineWidth) >= 2]",
        );
        let (name, seen) = (found[0].as_str().unwrap().to_owned(), found[1].as_bool().unwrap());
        if name == "BODY" || stops.iter().any(|(earlier, _)| *earlier == name) {
            return stops;
        }
        stops.push((name, seen));
    }
}

fn background(browser: &Browser) -> Value {
    browser.run("return getComputedStyle(document.body).backgroundColor")
}

/// Number of colours that are changing.
const CHANGING: &str = "return document.getAnimations().filter((one) => one instanceof CSSTransition).length";

/// Both themes, on a desktop and on a phone: every text has enough contrast, and nothing makes the page wider than the
/// screen.
fn assert_readable(browser: &Browser, when: &str) {
    for colours in ["light", "dark"] {
        browser.prefer(colours, false);
        for (screen, width, height) in [("desktop", 1600, 900), ("phone", 360, 740)] {
            browser.resize(width, height);
            // Charts are drawn again a frame later.
            browser.run("drawn = false; requestAnimationFrame(() => requestAnimationFrame(() => { drawn = true; }))");
            wait_for("a frame", || (browser.run("return drawn") == json!(true)).then_some(()));
            wait_for("its colours", || (browser.run(CHANGING) == json!(0)).then_some(()));
            assert_eq!(browser.run(LOW_CONTRAST), json!([]), "{when}, {colours}, {screen}");
            let wide = browser.run("return document.documentElement.scrollWidth");
            assert!(wide.as_u64() <= Some(u64::from(width)), "{when}: {wide} pixels wide on a {screen} of {width}");
            browser.picture(&format!("{when}-{colours}-{screen}"));
        }
    }
    browser.resize(1200, 900);
}

#[test]
fn a_browser_shows_the_run_as_it_goes_and_its_result() {
    if !Browser::is_there() {
        return skip("there is no chromium with chromedriver (apt-get install chromium chromium-driver)");
    }
    let folder = tempfile::Builder::new().prefix(HOSTILE).tempdir().unwrap();
    let (lab, port) = (Lab { folder, ..Lab::new(3) }, free_ports(1));
    let browser = Browser::start();
    let mut command = lab.command(&format!("--live --live-port {port} --keep-open --timeout 40 --heartbeat-millis 20"));
    command.args(["--fault", "4s pause 1", "--fault", "12s resume 1"]);
    // The result may be larger than a pipe takes, and nobody reads it.
    let to_file = |name: &str| std::fs::File::create(lab.folder.path().join(name)).unwrap();
    let mut run = Running(command.stdout(to_file("result")).stderr(to_file("words")).spawn().unwrap());
    wait_for("the page", || support::get(port, "/"));
    wait_for("traffic", || support::get(lab.metric_port, "/summary").filter(|(_, body)| body.contains("start_unix")));

    // The page moves.
    browser.open(&format!("http://127.0.0.1:{port}/"));
    wait_for("a rate", || browser.text("#delivered").parse::<f64>().ok().filter(|rate| *rate > 0.0));
    wait_for("a line", || browser.run("return document.querySelector('#rates path.blue')").is_object().then_some(()));
    let line = || browser.run("return document.querySelector('#rates path.blue').getAttribute('d')");
    let (before, counts) = (line(), browser.text("#ratio-of"));
    wait_for("a change", || (line() != before && browser.text("#ratio-of") != counts).then_some(()));
    wait_for("the window", || (browser.text("#phase") == "Measuring").then_some(()));

    // Present state of nodes and faults.
    let state_of = |node: u32| browser.find(&format!("#nodes tbody tr:nth-child({}) td", node + 1)).unwrap_or_default();
    wait_for("the pause", || (state_of(1) == "paused").then_some(()));
    assert_eq!(browser.text("#faults tbody tr td:nth-child(2)"), "4s pause 1");
    wait_for("its end", || (state_of(1) == "answering").then_some(()));
    assert!(browser.text("#faults tbody tr:nth-child(2) td:last-child").contains("running"));

    // A browser that comes late receives the earlier points.
    let points = browser.run("return state.points.length").as_u64();
    browser.reload();
    wait_for("the history", || (browser.run("return state.points.length").as_u64() >= points).then_some(()));

    assert_eq!(browser.run(UNTOLD), json!([]));
    assert!(browser.text("#reach-note").starts_with("Known at the end of the run"));
    assert_readable(&browser, "running");

    // The system's colours, and the switch, whose position is remembered.
    browser.prefer("dark", false);
    let dark = background(&browser);
    browser.prefer("light", true);
    let light = background(&browser);
    assert_ne!(dark, light);
    assert_eq!(browser.run("document.getElementById('theme').focus(); return document.getAnimations().length"), 0);
    browser.press(" ");
    wait_for("the other theme", || (background(&browser) == dark).then_some(()));
    browser.reload();
    wait_for("the run", || (state_of(0) == "answering").then_some(()));
    assert_eq!(background(&browser), dark);
    assert_eq!(browser.run("return document.getElementById('theme').getAttribute('aria-pressed')"), "true");
    browser.run("localStorage.clear(); delete document.documentElement.dataset.theme");
    let moving = "return getComputedStyle(document.querySelector('#stages li')).transitionDuration";
    assert_eq!(browser.run(moving), "0s");

    // The keyboard reaches all controls, in the order of the page, with a visible focus.
    let stops = tab_stops(&browser);
    let names: Vec<&str> = stops.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["theme", "faults-caption", "nodes-caption"]);
    assert!(stops.iter().all(|(_, seen)| *seen), "{stops:?}");

    // The result arrives by itself, and also for browsers that come after the end.
    wait_for("the verdict", || browser.text("#phase").starts_with("Finished").then_some(()));
    for _ in 0..2 {
        wait_for("the result", || browser.text("#verdict").contains("Valid measurement").then_some(()));
        assert!(browser.text("#totals").contains("Delivered"));
        assert!(browser.text("#reach-note").starts_with("Of "), "{}", browser.text("#reach-note"));
        let median = "return [...document.querySelectorAll('#reach tbody tr')].map((row) => row.cells[1].textContent)";
        let medians = browser.run(median);
        let known = |cell: &Value| cell.as_str().unwrap().ends_with('s');
        assert!(medians.as_array().unwrap().len() == 3 && medians.as_array().unwrap().iter().all(known), "{medians}");
        assert_eq!(browser.run("return document.querySelectorAll('#phases tbody tr').length"), 3);
        assert!(browser.text("#folder").contains(HOSTILE));
        assert_eq!(browser.run("return document.images.length"), 0);
        assert_eq!(browser.run(UNTOLD), json!([]));
        browser.reload();
    }
    assert_readable(&browser, "finished");
    assert_eq!(browser.console(), Vec::<Value>::new());

    run.signal("INT");
    let ended = wait_for("the end", || run.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    // The page keeps its content.
    assert!(browser.text("#verdict").contains("Valid measurement"));
}
