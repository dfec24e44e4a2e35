//! Output of `tc` about the qdiscs of one interface: `tc qdisc show dev X` as text, `tc -s -j qdisc show dev X` with
//! counters.

use super::handles::{SINK, is_rate, is_sink};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Counters and settings of one qdisc.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QdiscCounters {
    /// Interface of the qdisc.
    pub device: String,
    /// Kind, such as `netem` or `htb`.
    pub kind: String,
    /// Handle, as `tc` writes it.
    pub handle: String,
    /// Bytes that passed.
    pub bytes: u64,
    /// Packets that passed.
    pub packets: u64,
    /// Packets dropped.
    pub drops: u64,
    /// Number of packets that had to wait for the rate.
    pub overlimits: u64,
    /// Bytes in the queue at the time of reading.
    pub backlog: u64,
    /// True if it is the root, through which all packets go.
    #[serde(default)]
    pub root: bool,
    /// Settings as the kernel has them, in the words of `tc`; with those of its class, `rate` (bytes per second) and
    /// `burst` (bytes), if it limits a rate.
    #[serde(default)]
    pub options: Value,
}

impl QdiscCounters {
    /// Counters of the qdisc in which blocked packets end, of `drops` packets.
    pub fn of_sink(drops: u64) -> Self {
        Self { kind: "bfifo".into(), handle: format!("{SINK:x}:"), drops, ..Self::default() }
    }

    /// Bytes that its bucket holds, if it limits to this rate, in bytes per second.
    pub fn burst_bytes(&self, rate: u64) -> Option<u64> {
        let option = |name: &str| self.options.get(name).and_then(Value::as_u64);
        option("burst").filter(|_| self.limits_a_rate() && option("rate") == Some(rate))
    }

    /// True if it is a token bucket of ours.
    pub(super) fn limits_a_rate(&self) -> bool {
        self.kind == "htb" && is_rate(&self.handle)
    }

    /// Adds the settings of its class from the output of `tc class show`.
    pub(super) fn add_class(&mut self, classes: &str) {
        let class = format!("{}1", self.handle);
        let mut lines = classes.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let Some(words) = lines.find(|words| words.get(2) == Some(&class.as_str())) else { return };
        let after = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1));
        let rate = after("rate").and_then(|text| amount(text, "bit", 1000.0)).map(|bits| bits / 8);
        let burst = after("burst").and_then(|text| amount(text, "b", 1024.0));
        for (name, value) in [("rate", rate), ("burst", burst)] {
            if let (Some(options), Some(value)) = (self.options.as_object_mut(), value) {
                options.insert(name.to_owned(), value.into());
            }
        }
    }

    /// True if blocked packets end in it: its drops are the blocked packets.
    pub fn is_sink(&self) -> bool {
        self.kind == "bfifo" && is_sink(&self.handle)
    }
}

#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    dev: String,
    kind: String,
    handle: String,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    packets: u64,
    #[serde(default)]
    drops: u64,
    #[serde(default)]
    overlimits: u64,
    #[serde(default)]
    backlog: u64,
    #[serde(default)]
    root: bool,
    #[serde(default)]
    options: Value,
}

/// A qdisc of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Qdisc {
    /// Kind, such as `netem` or `htb`.
    pub(super) kind: String,
    /// Handle, as `tc` writes it.
    pub(super) handle: String,
    /// True if it is the root, through which all packets go.
    pub(super) root: bool,
}

/// Reads the text of `tc qdisc show dev X`. Used if a qdisc may be foreign, because `tc` prints invalid JSON for some
/// kinds.
pub(super) fn qdiscs(text: &str) -> Vec<Qdisc> {
    let qdisc = |line: &str| {
        let mut words = line.split_whitespace();
        let (first, kind, handle, place) = (words.next()?, words.next()?, words.next()?, words.next());
        let root = place == Some("root");
        (first == "qdisc").then(|| Qdisc { kind: kind.into(), handle: handle.into(), root })
    };
    text.lines().filter_map(qdisc).collect()
}

/// A size or rate as `tc` writes them: `50b`, `15Kb` (1024 bytes), `800Kbit` (1000 bits).
fn amount(text: &str, unit: &str, kilo: f64) -> Option<u64> {
    let text = text.strip_suffix(unit)?;
    let number = text.trim_end_matches(['K', 'M', 'G', 'T']);
    let power = match &text[number.len()..] {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return None,
    };
    let amount = number.parse::<f64>().ok()? * kilo.powi(power);
    (amount.is_finite() && amount >= 0.0).then_some(amount.round() as u64)
}

/// Reads the JSON of `tc -s -j qdisc show`.
///
/// # Errors
/// Fails if the text has another format.
pub fn qdisc_counters(json: &str) -> Result<Vec<QdiscCounters>, String> {
    let json = if json.trim().is_empty() { "[]" } else { json };
    let said: Vec<Said> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let counters = said.into_iter().map(|said| {
        let Said { dev: device, kind, handle, bytes, packets, drops, overlimits, backlog, root, options } = said;
        QdiscCounters { device, kind, handle, bytes, packets, drops, overlimits, backlog, root, options }
    });
    Ok(counters.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_qdiscs_of_tc_are_read() {
        let text = "qdisc netem 5000: root refcnt 2 limit 1000 delay 5ms\n\
                    qdisc ingress ffff: parent ffff:fff1 ---------------- \n\
                    qdisc fq_codel 0: parent :1 limit 10240p flows 1024\n  more of it\n";
        let qdisc = |kind: &str, handle: &str, root| Qdisc { kind: kind.into(), handle: handle.into(), root };
        let expected =
            [qdisc("netem", "5000:", true), qdisc("ingress", "ffff:", false), qdisc("fq_codel", "0:", false)];
        assert_eq!(qdiscs(text), expected);
        assert_eq!(qdiscs(""), []);
    }

    #[test]
    fn the_bucket_of_a_rate_is_read_from_its_class() {
        let text = "class tbf 7000:1 parent 7000: leaf 6000: \n\
                    class htb 6000:1 root leaf 4000: prio 0 rate 800Kbit ceil 800Kbit burst 49b cburst 49b \n\
                    class htb 6001:1 root leaf 4001: prio 0 rate 10Gbit ceil 10Gbit burst 1.5Kb cburst 1.5Kb \n";
        let qdisc = |kind: &str, handle: &str| {
            let options = serde_json::json!({"default": "0x1"});
            let mut one =
                QdiscCounters { kind: kind.into(), handle: handle.into(), options, ..QdiscCounters::default() };
            one.add_class(text);
            one
        };
        let one = qdisc("htb", "6000:");
        assert_eq!(one.options, serde_json::json!({"default": "0x1", "rate": 100_000, "burst": 49}));
        assert_eq!((one.burst_bytes(100_000), one.burst_bytes(99_000)), (Some(49), None));
        assert_eq!(qdisc("htb", "6001:").burst_bytes(1_250_000_000), Some(1536));
        assert_eq!(qdisc("htb", "6002:").burst_bytes(100_000), None);
        assert_eq!(qdisc("htb", "1:").burst_bytes(100_000), None);
        for text in ["", "b", "xb", "-1b", "infb", "1KKb", "1Kbit"] {
            assert_eq!(amount(text, "b", 1024.0), None, "{text}");
        }
    }

    #[test]
    fn the_counters_of_tc_are_read() {
        let json = r#"[{"kind":"tbf","handle":"ab1:","dev":"v0","parent":"ab0:1","options":{"rate":1,"lat":9},
            "bytes":7,"packets":6,"drops":5,"overlimits":4,"requeues":0,"backlog":3,"qlen":0}]"#;
        let expected = QdiscCounters {
            device: "v0".into(),
            kind: "tbf".into(),
            handle: "ab1:".into(),
            bytes: 7,
            packets: 6,
            drops: 5,
            overlimits: 4,
            backlog: 3,
            root: false,
            options: serde_json::json!({"rate": 1, "lat": 9}),
        };
        assert_eq!(qdisc_counters(json).unwrap(), [expected]);
        assert_eq!(qdisc_counters("\n").unwrap(), []);
        assert!(qdisc_counters("no").is_err());
    }
}
