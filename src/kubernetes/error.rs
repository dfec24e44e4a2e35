//! Errors of the client of Kubernetes, each in one line that says how to fix it.

use std::{error::Error as _, io};

use kube::{Error, client::AuthError, core::Status};
use thiserror::Error;

use super::text::one_line;

/// Maximum length of a program's name in an error, in characters.
const LONGEST_PROGRAM: usize = 200;

/// Reason why an operation on a cluster failed, in one line.
#[derive(Clone, Debug, Error)]
pub enum KubernetesError {
    /// The request is impossible, and the user can fix it.
    #[error("{0}")]
    Usage(String),
    /// The server has answered with a refusal.
    #[error("{line}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// Refused operation, and the server's own words.
        line: String,
    },
    /// An operation failed that should work.
    #[error("{0}")]
    Failed(String),
}

impl KubernetesError {
    /// True if another attempt may succeed: the server is away, or busy.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Usage(_) => false,
            Self::Refused { code, .. } => matches!(*code, 429 | 500..),
            Self::Failed(_) => true,
        }
    }

    /// True if the server answers that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }
}

/// Explains an error of the client during `doing` at the server `server`.
pub(super) fn explain(error: &Error, doing: &str, server: &str) -> KubernetesError {
    match error {
        Error::Api(status) => {
            KubernetesError::Refused { code: status.code, line: one_line(&refusal(status, doing, server)) }
        }
        Error::Auth(auth) => KubernetesError::Failed(one_line(&credentials(auth))),
        Error::ProxyProtocolDisabled { proxy_url, .. } | Error::ProxyProtocolUnsupported { proxy_url } => {
            KubernetesError::Usage(format!(
                "the proxy {proxy_url} can't be used: unset HTTPS_PROXY, or take proxy-url out of the kubeconfig"
            ))
        }
        other => KubernetesError::Failed(one_line(&format!("{doing}: {}", transport(other, server)))),
    }
}

fn refusal(status: &Status, doing: &str, server: &str) -> String {
    let text = if status.message.is_empty() { &status.reason } else { &status.message };
    match status.code {
        401 => format!(
            "{server} refuses the credentials of this context (401: {text}): log in again, or give another --context"
        ),
        403 => format!("{doing}: forbidden: {text}"),
        409 if status.reason == "Conflict" && !owners(status).is_empty() => {
            format!("{doing}: some of its fields belong to another manager: {}", owners(status).join("; "))
        }
        code if text.is_empty() => format!("{doing}: {server} answers {code}"),
        code => format!("{doing}: {text} ({code})"),
    }
}

/// Owners of the conflicting fields, and these fields.
fn owners(status: &Status) -> Vec<String> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| format!("{} ({})", cause.field, cause.message))
        .collect()
}

/// Reason why the credentials can't be obtained.
fn credentials(error: &AuthError) -> String {
    match error {
        AuthError::AuthExecStart(error) if error.kind() == io::ErrorKind::NotFound => {
            "the program that the kubeconfig names for credentials (exec) is not installed or not on the PATH; for GKE it \
             is gke-gcloud-auth-plugin"
                .to_owned()
        }
        AuthError::AuthExecRun { cmd, out } => {
            let words = String::from_utf8_lossy(&out.stderr);
            let last = words.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it wrote no reason");
            format!(
                "no credentials for this context: {last}: the program {} of the kubeconfig (exec) failed ({}): log in \
                 again, or give another --context",
                program_of(cmd),
                out.status
            )
        }
        other => format!("no credentials for this context: {other}: log in again, or give another --context"),
    }
}

/// Program of a command line in the form of the client, which writes the variables of its environment before it. They may
/// be secret, so none of them is shown.
fn program_of(command: &str) -> String {
    let mut rest = command;
    while let Some((before, quoted)) = rest.split_once('"') {
        let (word, after) = unquoted(quoted);
        // A quoted text after an equals sign is the value of a variable.
        if !before.ends_with('=') {
            return word.chars().take(LONGEST_PROGRAM).collect();
        }
        rest = after;
    }
    // Without quotes it has no variables.
    let word = command.split_whitespace().next().filter(|_| !command.contains('"')).unwrap_or("(unknown)");
    word.chars().take(LONGEST_PROGRAM).collect()
}

/// Text up to the quotation mark that ends it, and the rest. A backslash takes the meaning from the character after it.
fn unquoted(text: &str) -> (String, &str) {
    let mut word = String::new();
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => {
                escaped = false;
                word.push(character);
            }
            '\\' => escaped = true,
            '"' => return (word, text.get(at + 1..).unwrap_or_default()),
            _ => word.push(character),
        }
    }
    (word, "")
}

/// Reason why the server can't be reached.
fn transport(error: &Error, server: &str) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    let mut kind = None;
    while let Some(behind) = source {
        if let Some(io) = behind.downcast_ref::<io::Error>() {
            kind = Some(io.kind());
        }
        let cause = behind.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = behind.source();
    }
    // The client's names of its own layers mean nothing to the user.
    for layer in ["ServiceError: ", "HyperError: ", "client error (Connect): "] {
        text = text.replace(layer, "");
    }
    if text.contains("certificate") || text.contains("UnknownIssuer") {
        return format!(
            "the certificate of {server} is not trusted: {text}; see certificate-authority in the kubeconfig"
        );
    }
    let hint = match kind {
        Some(io::ErrorKind::ConnectionRefused) => "is the cluster up?",
        _ if text.contains("lookup") || text.contains("dns") => "is its name right, and does DNS know it from here?",
        _ => "can it be reached from here (VPN, firewall)?",
    };
    format!("no answer from {server}: {text}: {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_named_without_its_variables() {
        let info = r#"KUBERNETES_EXEC_INFO="{\"kind\":\"ExecCredential\"}" HIDDEN="top secret" "/opt/log in" "--now""#;
        assert_eq!(program_of(info), "/opt/log in");
        assert_eq!(program_of("gcloud config"), "gcloud");
        assert_eq!(program_of("A=\"open"), "(unknown)");
    }

    #[test]
    fn a_conflict_names_the_owner_and_the_field() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "status": "Failure", "code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict",
            "details": { "causes": [{ "reason": "FieldManagerConflict", "field": ".spec.replicas",
                                      "message": "conflict with \"argocd\"" }] }
        }))
        .unwrap();
        let error = explain(&Error::Api(Box::new(status)), "Service/grafana", "https://here");
        assert_eq!(
            error.to_string(),
            "Service/grafana: some of its fields belong to another manager: .spec.replicas (conflict with \"argocd\")"
        );
    }
}
