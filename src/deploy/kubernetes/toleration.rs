//! Taints that pods may ignore.

use std::{
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use serde::{Serialize, Serializer};

use super::names::{is_label_key, is_label_value};

/// Effects of a taint on pods.
const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// A taint that pods tolerate: `KEY[=VALUE][:EFFECT]`, as `kubectl taint` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toleration {
    /// Key of the taint.
    pub(crate) key: String,
    /// Value of the taint; none for every value.
    pub(crate) value: Option<String>,
    /// Effect of the taint; none for every effect.
    pub(crate) effect: Option<String>,
}

impl FromStr for Toleration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (taint, effect) = match text.split_once(':') {
            Some((taint, effect)) => (taint, Some(effect.to_owned())),
            None => (text, None),
        };
        let (key, value) = match taint.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (taint, None),
        };
        if !is_label_key(key) || !value.as_deref().is_none_or(is_label_value) {
            return Err("no taint: write KEY, KEY=VALUE or KEY=VALUE:NoSchedule".into());
        }
        if let Some(effect) = effect.as_deref().filter(|effect| !EFFECTS.contains(effect)) {
            return Err(format!("'{effect}' is no effect of a taint: {}", EFFECTS.join(", ")));
        }
        Ok(Self { key: key.into(), value, effect })
    }
}

impl Display for Toleration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, "={value}")?;
        }
        if let Some(effect) = &self.effect {
            write!(f, ":{effect}")?;
        }
        Ok(())
    }
}

impl Serialize for Toleration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_read_as_kubectl_writes_them() {
        for text in ["dedicated", "dedicated=bench", "a.io/b=:NoExecute", "key:NoSchedule"] {
            assert_eq!(text.parse::<Toleration>().unwrap().to_string(), text);
        }
        for text in ["", "=a", "a:", "a:noschedule", "a=b c", "a=b:NoSchedule:x", "a/b/c"] {
            assert!(text.parse::<Toleration>().is_err(), "{text}");
        }
    }
}
