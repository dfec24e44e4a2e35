//! HTTP endpoints of remote nodes.

use std::{collections::BTreeSet, fmt, net::IpAddr, path::Path, str::FromStr};

use serde::{Serialize, Serializer};

use crate::{node::UsageError, paths::read_text};

/// Maximum size of a file of endpoints, in bytes: ten thousand long names.
const FILE_LIMIT: u64 = 1 << 20;

/// HTTP endpoint of a node: a host and the port of `--metric-port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    address: String,
    host: String,
}

impl Endpoint {
    /// Host and port, as in a URL: an IPv6 address has brackets.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Address of the host, if it is given as one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("'{text}' {why}; write HOST:PORT, as in 10.0.0.7:2000 or [fd00::7]:2000"));
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return wrong("is no address of a node, which uses http only"),
            None => text,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return wrong("has a path");
        }
        let Some((host, port)) = authority.rsplit_once(':') else { return wrong("has no port") };
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return wrong("has no port from 1 to 65535"),
        };
        let (host, bracketed) = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => (host, true),
            None => (host, false),
        };
        let is_name = |host: &str| {
            (1..=253).contains(&host.len())
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        let address = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) if bracketed => format!("[{ip}]:{port}"),
            Ok(IpAddr::V6(_)) => return wrong("is an IPv6 address without brackets"),
            Ok(IpAddr::V4(ip)) if !bracketed => format!("{ip}:{port}"),
            _ if !bracketed && is_name(host) => format!("{}:{port}", host.to_ascii_lowercase()),
            _ => return wrong("names no host"),
        };
        Ok(Self { address, host: host.to_ascii_lowercase() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.address)
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Endpoints of the flags and the file, each once.
///
/// # Errors
/// One line that names the one that is wrong.
pub(crate) fn endpoints(given: &[Endpoint], file: Option<&Path>) -> Result<Vec<Endpoint>, UsageError> {
    let mut all = given.to_vec();
    if let Some(path) = file {
        let failed = |why: String| UsageError(format!("--nodes-file {}: {why}", path.display()));
        let text = read_text(path, FILE_LIMIT).map_err(failed)?;
        for (number, line) in (1..).zip(text.lines()) {
            let words = line.split('#').next().unwrap_or_default();
            for word in words.split([',', ' ', '\t']).filter(|word| !word.is_empty()) {
                all.push(word.parse().map_err(|error| failed(format!("line {number}: {error}")))?);
            }
        }
    }
    if all.is_empty() {
        return Err(UsageError("no node is given: name every node's endpoint with --node or in --nodes-file".into()));
    }
    let mut seen = BTreeSet::new();
    match all.iter().find(|endpoint| !seen.insert(endpoint.address())) {
        Some(twice) => Err(UsageError(format!("the endpoint {twice} is given twice"))),
        None => Ok(all),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(text: &str) -> Result<String, String> {
        text.parse().map(|endpoint: Endpoint| endpoint.to_string())
    }

    #[test]
    fn hosts_are_addresses_or_names_and_urls_are_understood() {
        for (text, address) in [
            ("10.0.0.7:2000", "10.0.0.7:2000"),
            ("http://10.0.0.7:2000/", "10.0.0.7:2000"),
            ("Node-1.lan:2001", "node-1.lan:2001"),
            ("[FD00::0:7]:2000", "[fd00::7]:2000"),
            ("http://[::1]:65535", "[::1]:65535"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(address));
        }
    }

    #[test]
    fn an_invalid_endpoint_is_refused_in_one_line_with_the_right_format() {
        for (text, says) in [
            ("", "has no port"),
            ("10.0.0.7", "has no port"),
            ("10.0.0.7:0", "has no port from 1"),
            ("10.0.0.7:65536", "has no port from 1"),
            ("10.0.0.7:20x", "has no port from 1"),
            (":2000", "names no host"),
            ("fd00::7:2000", "without brackets"),
            ("[10.0.0.7]:2000", "names no host"),
            ("[]:2000", "names no host"),
            ("me@host:2000", "names no host"),
            ("a b:2000", "names no host"),
            ("https://host:2000", "uses http only"),
            ("http://host:2000/summary", "has a path"),
        ] {
            let line = read(text).unwrap_err();
            assert!(line.contains(says) && line.contains("write HOST:PORT"), "{text}: {line}");
            assert_eq!(line.lines().count(), 1);
        }
    }

    #[test]
    fn a_file_has_endpoints_and_comments_and_names_the_line_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes");
        fs::write(&path, "# the lab\n10.0.0.1:2000  # first\n\n10.0.0.2:2000,10.0.0.3:2000\n").unwrap();
        fs::write(&path, "\u{feff}10.0.0.1:2000\r\n# more\r\n10.0.0.2:2000\r\n").unwrap();
        assert_eq!(endpoints(&[], Some(&path)).unwrap().len(), 2);
        fs::write(&path, b"\xff\xfe1\x000\x00").unwrap();
        assert!(endpoints(&[], Some(&path)).unwrap_err().to_string().ends_with("it is no text in UTF-8"));
        fs::write(&path, "# the lab\n10.0.0.1:2000  # first\n\n10.0.0.2:2000,10.0.0.3:2000\n").unwrap();
        let given = ["10.0.0.4:2000".parse().unwrap()];
        let all: Vec<String> = endpoints(&given, Some(&path)).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(all, ["10.0.0.4:2000", "10.0.0.1:2000", "10.0.0.2:2000", "10.0.0.3:2000"]);
        fs::write(&path, "10.0.0.1:2000\n10.0.0.2\n").unwrap();
        assert!(endpoints(&[], Some(&path)).unwrap_err().to_string().contains("line 2: '10.0.0.2' has no port"));
        fs::write(&path, "10.0.0.1:2000\nhttp://10.0.0.1:2000\n").unwrap();
        assert!(endpoints(&[], Some(&path)).unwrap_err().to_string().contains("10.0.0.1:2000 is given twice"));
        assert!(endpoints(&[], None).unwrap_err().to_string().contains("--nodes-file"));
    }
}
