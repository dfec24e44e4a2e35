//! Amounts of processors and memory, as Kubernetes writes them.

use std::{
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use serde::{Serialize, Serializer};

/// Suffixes, and their values in thousandths.
const SUFFIXES: [(&str, u128); 14] = [
    ("", 1000),
    ("m", 1),
    ("k", 1_000_000),
    ("M", 1_000_000_000),
    ("G", 1_000_000_000_000),
    ("T", 1_000_000_000_000_000),
    ("P", 1_000_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000_000),
    ("Ki", 1000 << 10),
    ("Mi", 1000 << 20),
    ("Gi", 1000 << 30),
    ("Ti", 1000 << 40),
    ("Pi", 1000 << 50),
    ("Ei", 1000 << 60),
];

/// Maximum number of digits on either side of the dot.
const MOST_DIGITS: usize = 15;

/// An amount: a number with or without a suffix, such as `7500m` or `10Gi`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quantity {
    /// Text, as it was given.
    text: String,
    /// Value in thousandths of its unit: a processor, a byte.
    thousandths: u128,
}

impl Quantity {
    /// Value in thousandths of its unit, a processor or a byte; smaller fractions are cut off.
    pub(crate) fn thousandths(&self) -> u128 {
        self.thousandths
    }
}

impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || {
            "no amount that Kubernetes knows: write a number with or without a suffix, such as 7500m for 7.5 processors or \
             10Gi for memory"
                .to_owned()
        };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| (1..=MOST_DIGITS).contains(&text.len()) && text.chars().all(|c| c.is_ascii_digit());
        if !digits(whole) || !digits(part) {
            return Err(bad());
        }
        let (_, unit) = SUFFIXES.iter().find(|(name, _)| *name == suffix).ok_or_else(bad)?;
        let scale = 10u128.pow(u32::try_from(part.len()).map_err(|_| bad())?);
        let (whole, part): (u128, u128) = (whole.parse().map_err(|_| bad())?, part.parse().map_err(|_| bad())?);
        // 10^15 times 2^70 is below 2^121.
        Ok(Self { text: text.into(), thousandths: whole * unit + part * unit / scale })
    }
}

impl Display for Quantity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        for (text, thousandths) in [
            ("7500m", 7500),
            ("7.5", 7500),
            ("8", 8000),
            ("0.0005", 0),
            ("10Gi", (10 << 30) * 1000),
            ("1.5Ki", 1_536_000),
            ("10G", 10_000_000_000_000),
            ("999999999999999Ei", 999_999_999_999_999 * (1000 << 60)),
        ] {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!((quantity.thousandths(), quantity.to_string().as_str()), (thousandths, text));
        }
    }

    #[test]
    fn others_are_refused() {
        for text in ["", "m", "Gi", "10GB", "10gi", "1 Gi", "-1", "1.", ".5", "1.2.3", "1e3", "NaN", &"9".repeat(16)] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
