//! A headless Chromium, driven over the WebDriver protocol: chromedriver takes JSON over plain HTTP.
#![allow(dead_code, unreachable_pub, reason = "each test program with a browser uses a part of it")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Running, free_ports, wait_for};

/// Time limit; Chromium is slow to start on busy processors.
const LIMIT: Duration = Duration::from_secs(60);

/// Texts with a contrast to their background below AA: 4.5, or 3 for large ones.
pub const LOW_CONTRAST: &str = "
    const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = parse(colour).map((part) => part / 255)
            .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (parse(colour)[3] !== 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    // Text on a dark step of a heat map has the drawn square behind it, and not the page.
    const onSquare = (element) => (element.getAttribute('fill') || '').toLowerCase() === '#fffffe';
    const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    return [...document.body.querySelectorAll('*')].filter((element) => own(element) && !onSquare(element) && element.getClientRects().length)
        .map((element) => {
            const style = getComputedStyle(element);
            const colour = element instanceof SVGElement ? style.fill : style.color;
            const [dark, bright] = [light(colour), light(behind(element))].sort((one, other) => one - other);
            const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
            return { text: element.textContent.slice(0, 40), ratio: (bright + 0.05) / (dark + 0.05), least: large ? 3 : 4.5 };
        })
        .filter(({ ratio, least }) => ratio < least);";

/// Answer of chromedriver, if it answers; it leaves the connection open afterwards.
fn exchange(port: u16, method: &str, path: &str, body: &str) -> Option<(String, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        answer.read_line(&mut head).ok().filter(|length| *length > 0)?;
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())?;
    let mut body = vec![0; length];
    answer.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).ok()?))
}

/// A browser with one window; it ends with its test.
pub struct Browser {
    port: u16,
    session: String,
    _driver: Running,
    _profile: TempDir,
}

impl Browser {
    /// True if a browser exists on this machine.
    pub fn is_there() -> bool {
        ["chromium", "chromedriver"].iter().all(|program| {
            let run = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            run.is_ok_and(|status| status.success())
        })
    }

    pub fn start() -> Self {
        let (port, profile) = (free_ports(1), tempfile::tempdir().unwrap());
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).stdout(Stdio::null()).stderr(Stdio::null());
        let driver = Running(command.spawn().unwrap());
        wait_for("chromedriver", || {
            exchange(port, "GET", "/status", "").filter(|(_, body)| body["value"]["ready"] == true)
        });
        let mut args = vec![
            "--headless=new".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--window-size=1200,900".to_owned(),
            format!("--user-data-dir={}", profile.path().display()),
        ];
        if nix::unistd::geteuid().is_root() {
            // Chromium has no sandbox for root.
            args.push("--no-sandbox".to_owned());
        }
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let mut browser = Self { port, session: String::new(), _driver: driver, _profile: profile };
        browser.session = browser.send("POST", "/session", &wanted)["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let (head, mut answer) = exchange(self.port, method, path, &body.to_string()).unwrap();
        assert!(head.starts_with("http/1.1 200"), "{path} {body}: {head}\n{answer:#}");
        answer["value"].take()
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        self.send("POST", &format!("/session/{}/{command}", self.session), body)
    }

    pub fn open(&self, address: &str) {
        self.post("url", &json!({ "url": address }));
    }

    pub fn reload(&self) {
        self.post("refresh", &json!({}));
    }

    /// Result of a script in the page.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Text of an element, shown or not, if it exists.
    pub fn find(&self, selector: &str) -> Option<String> {
        let found = self.run(&format!("return document.querySelector('{selector}')?.textContent"));
        found.as_str().map(str::to_owned)
    }

    /// Text of an existing element.
    pub fn text(&self, selector: &str) -> String {
        self.find(selector).unwrap_or_else(|| panic!("there is no {selector}"))
    }

    /// A command of Chromium's own protocol.
    pub fn command(&self, name: &str, params: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({ "cmd": name, "params": params }))
    }

    /// Sets the preferences of a user: colours, `dark` or `light`, and reduced motion.
    pub fn prefer(&self, colours: &str, less_motion: bool) {
        let motion = if less_motion { "reduce" } else { "no-preference" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": colours },
            { "name": "prefers-reduced-motion", "value": motion },
        ]);
        self.command("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Sets the size of the screen.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.command("Emulation.setDeviceMetricsOverride", &size);
    }

    pub fn press(&self, key: &str) {
        let keys = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": keys }] }));
    }

    /// Messages on the console since the last call.
    pub fn console(&self) -> Vec<Value> {
        self.post("se/log", &json!({ "type": "browser" })).as_array().unwrap().clone()
    }

    /// Saves a picture of the whole page in the folder that `APOLLO_SCREENSHOTS` names, if it is set.
    pub fn picture(&self, name: &str) {
        let Ok(folder) = std::env::var("APOLLO_SCREENSHOTS") else { return };
        let taken = self.command("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        let bytes = BASE64_STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium would outlive a killed driver.
        if !self.session.is_empty() {
            let _ = exchange(self.port, "DELETE", &format!("/session/{}", self.session), "");
        }
    }
}
