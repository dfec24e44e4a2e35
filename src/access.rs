//! Access to an HTTP endpoint: the token of a run, and the Host and Origin of a request.

use std::{fmt, io, net::IpAddr, path::Path};

use crate::{paths::read_text, secret::secret};

/// Name of the environment variable of a token. A command line would show the token to every user of the machine.
pub const TOKEN_VARIABLE: &str = "APOLLO_TOKEN";

/// Permitted lengths of a token, in characters: a shorter one could be guessed, a longer one fills the header of a
/// request.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=256;

/// Maximum size of a token's file, in bytes: a token and its line end.
const FILE_LIMIT: u64 = 1024;

/// Secret that a runner and its nodes share. It has no `Display` and is never serialized, so that no log, manifest or
/// summary can contain it.
#[derive(Clone, PartialEq, Eq)]
pub struct RunToken(String);

impl fmt::Debug for RunToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RunToken(..)")
    }
}

impl RunToken {
    /// Makes a new token that nobody can guess.
    ///
    /// # Errors
    /// Errors of reading the kernel's random numbers.
    pub fn random() -> io::Result<Self> {
        // Twice 128 bits, because the token protects a run on a public network for hours.
        Ok(Self(format!("{}{}", secret()?, secret()?)))
    }

    /// Reads a token from text, without the space around it.
    ///
    /// # Errors
    /// One line with the format of a token; it never repeats the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if !LENGTHS.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "a token is {} to {} visible ASCII characters without spaces (try: openssl rand -hex 32)",
                LENGTHS.start(),
                LENGTHS.end()
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// Token in `file`, or otherwise in the environment variable [`TOKEN_VARIABLE`]; none if neither is given.
    ///
    /// # Errors
    /// One line that names the file or the variable.
    pub fn given(file: Option<&Path>) -> Result<Option<Self>, String> {
        if let Some(path) = file {
            let failed = |why: String| format!("--token-file {}: {why}", path.display());
            let text = read_text(path, FILE_LIMIT).map_err(failed)?;
            return Self::parse(&text).map(Some).map_err(failed);
        }
        match std::env::var_os(TOKEN_VARIABLE).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => {
                let text = value.to_str().unwrap_or_default();
                Self::parse(text).map(Some).map_err(|why| format!("the environment variable {TOKEN_VARIABLE}: {why}"))
            }
        }
    }

    /// The token itself, only for an environment, a secret store or the header of a request.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Value of the `Authorization` header with this token.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// True if the value of an `Authorization` header contains this token. The time of the comparison does not depend
    /// on the place of a difference.
    pub fn authorizes(&self, value: &[u8]) -> bool {
        let Some((scheme, given)) = value.split_at_checked(7) else { return false };
        let own = self.0.as_bytes();
        let differ = own.iter().zip(given).fold(0, |differ, (one, other)| differ | (one ^ other));
        scheme.eq_ignore_ascii_case(b"Bearer ") && given.len() == own.len() && std::hint::black_box(differ) == 0
    }
}

/// Host of a `Host` header, and its port: 80 if the header has none; none if the port is no number.
pub fn host_and_port(host: &str) -> Option<(&str, u16)> {
    match host.rsplit_once(':') {
        Some((name, digits)) if !digits.ends_with(']') => Some((name, digits.parse().ok()?)),
        _ => Some((host, 80)),
    }
}

/// True if the host names this machine in a way that no foreign page can use: a site may let its own name point to this
/// machine, and could then read the answers.
pub fn is_loopback_name(host: &str) -> bool {
    host == "127.0.0.1" || host == "[::1]" || host.eq_ignore_ascii_case("localhost")
}

/// True if the host is given as an address, or is one of `names`, which are in lower case. A foreign page always has a
/// name of its own.
pub fn is_address_or_named(host: &str, names: &[String]) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok() || host == "localhost" || names.contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_accepted_completely_or_refused_and_never_shown() {
        let token = RunToken::parse(" 0123456789abcdef\n").unwrap();
        assert!(token.authorizes(b"Bearer 0123456789abcdef") && token.authorizes(b"bearer 0123456789abcdef"));
        for wrong in
            ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef"]
        {
            assert!(!token.authorizes(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "RunToken(..)");
        for wrong in ["", "short", "0123456789 abcdef", "0123456789abcdé0", &"x".repeat(257)] {
            let line = RunToken::parse(wrong).unwrap_err();
            assert!(line.contains("openssl rand") && (wrong.is_empty() || !line.contains(wrong)), "{line}");
        }
        assert_ne!(RunToken::random().unwrap(), RunToken::random().unwrap());
    }

    #[test]
    fn a_host_is_an_address_localhost_or_a_name_that_was_given() {
        let names = ["node-1.lan".to_owned()];
        for own in ["10.0.0.7", "[fd00::7]", "127.0.0.1", "LOCALHOST", "Node-1.lan", "node-1.lan."] {
            assert!(is_address_or_named(own, &names), "{own}");
        }
        for other in ["evil.example", "10.0.0.7.evil.example", "node-1.lan.evil.example", "", "[", "lan"] {
            assert!(!is_address_or_named(other, &names), "{other}");
        }
        assert_eq!(host_and_port("[::1]:8080"), Some(("[::1]", 8080)));
        assert_eq!(host_and_port("[::1]"), Some(("[::1]", 80)));
        assert_eq!(host_and_port("a:b"), None);
    }
}
