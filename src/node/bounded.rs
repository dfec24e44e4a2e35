//! Lists, maps and names of bounded size, read from another program: too large ones are refused while they are read,
//! before they take memory.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// Maximum number of labels of one metric: libp2p has a few dozen events.
const MOST_LABELS: usize = 256;
/// Maximum length of a name, in bytes: a peer id has 52, a version and a label fewer.
const LONGEST_NAME: usize = 128;

fn checked<E: Error>(name: String) -> Result<String, E> {
    if name.len() > LONGEST_NAME {
        Err(E::custom(format_args!("a name of {} bytes: at most {LONGEST_NAME}", name.len())))
    } else if name.chars().any(char::is_control) {
        // Names that are made here have none; a foreign one would forge lines.
        Err(E::custom("a name with control characters"))
    } else {
        Ok(name)
    }
}

/// A name: short, and without control characters.
pub(super) fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    checked(String::deserialize(deserializer)?)
}

struct List<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a list of at most {MOST}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut all = vec![];
        while let Some(next) = list.next_element()? {
            if all.len() >= MOST {
                return Err(A::Error::invalid_length(MOST + 1, &self));
            }
            all.push(next);
        }
        Ok(all)
    }
}

/// A list of at most `MOST`.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(List::<T, MOST>(PhantomData))
}

struct Labels;

impl<'de> Visitor<'de> for Labels {
    type Value = BTreeMap<String, u64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "counts by at most {MOST_LABELS} labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = BTreeMap::new();
        while let Some((label, count)) = map.next_entry()? {
            if all.len() >= MOST_LABELS {
                return Err(A::Error::invalid_length(MOST_LABELS + 1, &self));
            }
            all.insert(checked(label)?, count);
        }
        Ok(all)
    }
}

/// Counts by label.
pub(super) fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, u64>, D::Error> {
    deserializer.deserialize_map(Labels)
}
