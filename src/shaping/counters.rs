//! Output of `tc` about the qdiscs of one interface: `tc qdisc show dev X` as text, `tc -s -j qdisc show dev X` with
//! counters.

use super::batch::is_sink;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Counters and settings of one qdisc.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QdiscCounters {
    /// Interface of the qdisc.
    pub device: String,
    /// Kind, such as `netem` or `tbf`.
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
    /// Settings as the kernel has them, in the words of `tc`.
    #[serde(default)]
    pub options: Value,
}

impl QdiscCounters {
    /// Bytes that it may send at once, if it is a token bucket of that rate, in bytes per second.
    pub fn burst_bytes(&self, rate: u64) -> Option<u64> {
        let option = |name: &str| self.options.get(name).and_then(Value::as_u64);
        option("burst").filter(|_| self.kind == "tbf" && option("rate") == Some(rate))
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
    /// Kind, such as `netem` or `tbf`.
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

/// Reads the JSON of `tc -s -j qdisc show`.
///
/// # Errors
/// Fails if it is not that.
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
