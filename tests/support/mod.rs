//! Common parts of the tests of the real programs.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real programs run in the time of the machine")]

use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use apollo_network_benchmark::network::peer_id;
use serde_json::Value;
use tempfile::TempDir;

pub const BENCH: &str = env!("CARGO_BIN_EXE_apollo-bench");
pub const NODE: &str = env!("CARGO_BIN_EXE_broadcast_network_stress_test_node");

/// Token of all runs of the tests.
pub const TOKEN: &str = "a-token-of-the-tests-and-of-nobody-else";

/// The node's program, with the token in its environment.
pub fn node_command() -> Command {
    let mut command = Command::new(NODE);
    command.env("APOLLO_TOKEN", TOKEN);
    command
}

/// The runner's program, with the token in its environment.
pub fn bench_command() -> Command {
    let mut command = Command::new(BENCH);
    command.env("APOLLO_TOKEN", TOKEN);
    command
}

/// Ports of the tests, below the range that the kernel uses for outgoing connections.
const FIRST_PORT: u16 = 21_000;
const LAST_PORT: u16 = 32_000;

/// Number of ports that a test program reserves at once.
const BLOCK: u16 = 100;

/// Blocks of ports that this program has reserved, of which the first `taken` ports of the last block are in use. The
/// locks live as long as the program.
struct Reserved {
    locks: Vec<File>,
    block: u16,
    taken: u16,
}

/// Reserves a block that no other running test program has. A locked file represents it, and the kernel unlocks the
/// file when the program ends.
fn reserve_block(locks: &mut Vec<File>) -> u16 {
    let folder = std::env::temp_dir().join(format!("apollo-test-ports-{}", nix::unistd::getuid()));
    fs::create_dir_all(&folder).unwrap();
    for block in (FIRST_PORT..LAST_PORT).step_by(BLOCK.into()) {
        let lock = File::create(folder.join(block.to_string())).unwrap();
        if lock.try_lock().is_ok() {
            locks.push(lock);
            return block;
        }
    }
    panic!("other test programs have reserved all blocks of ports in {}", folder.display());
}

/// First of `count` consecutive free ports that no other test gets, of this program or of a concurrent one.
pub fn free_ports(count: u16) -> u16 {
    static RESERVED: Mutex<Reserved> = Mutex::new(Reserved { locks: Vec::new(), block: 0, taken: BLOCK });
    assert!(count <= BLOCK, "a block has {BLOCK} ports");
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if reserved.taken + count > BLOCK {
            reserved.block = reserve_block(&mut reserved.locks);
            reserved.taken = 0;
        }
        let base = reserved.block + reserved.taken;
        reserved.taken += count;
        if (base..base + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
}

/// Waits until `condition` returns something; panics with `what` after two minutes, which no working program needs on a
/// slow machine.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reports that a test, or a part of it, can't be run here, and the reason. With `APOLLO_TEST_NO_SKIP=1`, as on a
/// machine that has everything, the test fails instead.
pub fn skip(why: &str) {
    assert!(std::env::var("APOLLO_TEST_NO_SKIP").as_deref() != Ok("1"), "nothing may be skipped here: {why}");
    // Not by `eprintln!`, because the test harness would swallow it.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// True if Docker runs here and may be used; otherwise `what` is skipped.
pub fn has_docker(what: &str) -> bool {
    let docker = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
    let runs = docker.is_ok_and(|output| output.status.success());
    if !runs {
        skip(&format!("no Docker runs here, or this user may not use it, for {what}"));
    }
    runs
}

/// Tries a line of `tc` in a temporary network namespace, to learn the kernel's abilities.
fn try_qdisc(qdisc: &str) -> Result<(), String> {
    let script = format!("ip link add try0 type veth peer name try1 && tc qdisc add dev try0 root {qdisc}");
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", &script])
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).replace('\n', " ")) }
}

/// True if the kernel can delay packets.
pub fn has_netem() -> bool {
    try_qdisc("netem delay 1ms").is_ok()
}

/// Error with the reason if the kernel can't limit throughput.
pub fn can_limit_throughput() -> Result<(), String> {
    try_qdisc("tbf rate 1mbit burst 10k latency 10ms")
        .and_then(|()| try_qdisc("htb default 1"))
        .map_err(|words| format!("throughput can't be limited here, or it can't be found out: {words}"))
}

/// An HTTP answer to a request with the token: status line and headers, and the body.
pub fn request(port: u16, method: &str, path: &str, body: &str) -> Option<(String, String)> {
    let headers = format!("Host: localhost\r\nAuthorization: Bearer {TOKEN}");
    request_with(port, method, path, &headers, body)
}

/// An HTTP answer to a request with these headers alone.
pub fn request_with(port: u16, method: &str, path: &str, headers: &str, body: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\n{headers}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.to_owned(), body.to_owned()))
}

pub fn get(port: u16, path: &str) -> Option<(String, String)> {
    request(port, "GET", path, "")
}

/// A running program that is killed after any end of the test.
pub struct Running(pub Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits for the end of the program.
    pub fn output(mut self) -> Output {
        let mut stdout = vec![];
        let mut stderr = vec![];
        self.0.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        self.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        let status = self.0.wait().unwrap();
        Output { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status().unwrap().success());
}

/// True if a process exists and is no zombie.
pub fn lives(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
}

/// A network of nodes on ports of its own.
pub struct Lab {
    pub folder: TempDir,
    pub metric_port: u16,
    pub p2p_port: u16,
    pub num_nodes: u16,
}

impl Lab {
    pub fn new(num_nodes: u16) -> Self {
        let metric_port = free_ports(num_nodes * 2);
        Self { folder: tempfile::tempdir().unwrap(), metric_port, p2p_port: metric_port + num_nodes, num_nodes }
    }

    pub fn output(&self) -> std::path::PathBuf {
        self.folder.path().join("run")
    }

    pub fn command(&self, args: &str) -> Command {
        let mut command = bench_command();
        command.args(["local", "--json"]).args(args.split_whitespace());
        // Limits that a slow machine does not reach, unless a test sets them.
        for (flag, seconds) in [("--ready-timeout-seconds", 300), ("--hang-timeout-seconds", 120)] {
            if !args.contains(flag) {
                command.arg(format!("{flag}={seconds}"));
            }
        }
        command.arg(format!("--num-nodes={}", self.num_nodes));
        command.arg(format!("--base-metric-port={}", self.metric_port));
        command.arg(format!("--base-p2p-port={}", self.p2p_port));
        command.arg("--output").arg(self.output());
        command
    }

    pub fn run(&self, args: &str) -> (Option<i32>, Value) {
        result(Running::start(&mut self.command(args)).output())
    }

    /// Process ids of the nodes, once all of them answer.
    pub fn processes(&self) -> Vec<u32> {
        (0..self.num_nodes)
            .map(|node| {
                wait_for("a node's summary", || {
                    let summary: Value = serde_json::from_str(&get(self.metric_port + node, "/summary")?.1).ok()?;
                    summary["process"].as_u64()?.try_into().ok()
                })
            })
            .collect()
    }

    /// Waits until node `node` has counted something in the measured window.
    pub fn wait_until_measuring(&self, node: u16) {
        wait_for("the measured window", || {
            let summary: Value = serde_json::from_str(&get(self.metric_port + node, "/summary")?.1).ok()?;
            let counts = &summary["measured"];
            (counts["sent"].as_u64()? + counts["received"].as_u64()? > 0).then_some(())
        });
    }
}

/// Exit code and summary of a finished `local --json`.
pub fn result(output: Output) -> (Option<i32>, Value) {
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), summary)
}

/// Checks that every sent message reached every other node exactly once, and that every other one is counted as missed:
/// a slow machine misses some.
pub fn assert_all_delivered(run: &Value) {
    let totals = &run["totals"];
    let count = |name: &str| totals[name].as_u64().unwrap();
    let others = run["nodes"].as_array().unwrap().len() as u64 - 1;
    assert_eq!(count("delivered"), count("sent") * others, "{run:#}");
    assert_eq!(count("sent") + count("dropped") + count("missed"), count("intended"), "{run:#}");
    assert_eq!(count("intended") * others, count("expected"), "{run:#}");
    assert!(count("sent") > 0, "{run:#}");
}

/// Arguments of a lone node, only the required ones.
pub fn lone_node(metric_port: u16, p2p_port: u16, extra: &str) -> Vec<String> {
    let text = format!(
        "--id 0 --num-nodes 2 --metric-port {metric_port} --p2p-port {p2p_port} --mode all --network-protocol gossipsub \
         --message-size-bytes 100 --heartbeat-millis 100 --buffer-size 100 --timeout 60 --verbosity 2 \
         --metric-address 127.0.0.1 --p2p-address 127.0.0.1 {extra}"
    );
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words.push(format!("--bootstrap=/ip4/127.0.0.1/tcp/{}/p2p/{}", p2p_port + 1, peer_id(1)));
    words
}

/// Path of a program on the PATH; without it the test is skipped.
pub fn program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        skip(&format!("{name} is not on the PATH (Debian: apt-get install prometheus)"));
    }
    found
}

/// Body of an answer that may be chunked.
pub fn body_of(head: &str, body: &str) -> String {
    if !head.to_lowercase().contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let mut whole = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&after[..size]);
        rest = after[size..].trim_start_matches("\r\n");
    }
    whole
}
