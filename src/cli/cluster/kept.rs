//! Start of a run in a ConfigMap.

use std::io::{self, Read, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::{deploy::kubernetes::names::START_KEY, experiment::StartedRun};

/// Maximum size of a text that is stored unpacked, in bytes: a ConfigMap contains at most 1 MiB in all.
const LONGEST_TEXT: usize = 256 << 10;

/// Maximum size of an unpacked start, in bytes: with every link of a network of 100 nodes, it is a tenth of it.
const LONGEST_START: u64 = 64 << 20;

/// Key of a packed start.
fn packed_key() -> String {
    format!("{START_KEY}.gz")
}

/// Writes the start into the ConfigMap. With many measured links it is long, and is packed.
pub(super) fn keep_start(map: &mut DynamicObject, started: &StartedRun) -> io::Result<()> {
    let text = serde_json::to_string(started)?;
    if text.len() <= LONGEST_TEXT {
        map.data["data"][START_KEY] = Value::String(text);
        return Ok(());
    }
    let mut packer = GzEncoder::new(vec![], Compression::best());
    packer.write_all(text.as_bytes())?;
    map.data["binaryData"] = json!({ packed_key(): ByteString(packer.finish()?) });
    Ok(())
}

/// Start in a ConfigMap, if it has one.
pub(super) fn kept_start(map: &ConfigMap) -> io::Result<Option<StartedRun>> {
    if let Some(text) = map.data.as_ref().and_then(|data| data.get(START_KEY)) {
        return Ok(serde_json::from_str(text)?);
    }
    let Some(packed) = map.binary_data.as_ref().and_then(|data| data.get(&packed_key())) else { return Ok(None) };
    let mut text = vec![];
    GzDecoder::new(packed.0.as_slice()).take(LONGEST_START).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_or_long_start_is_read_back_unchanged() {
        let order = json!({ "start_unix_nanos": 7, "warm_up_millis": 0 });
        for clocks in [1, 20_000] {
            let clocks: Value = (0..clocks)
                .map(|node| (node.to_string(), json!({ "offset_micros": node, "error_micros": 2 })))
                .collect::<serde_json::Map<_, _>>()
                .into();
            let text = json!({ "start": order, "ready_seconds": 1.5, "links": [], "clocks": clocks });
            let started: StartedRun = serde_json::from_value(text).unwrap();
            let mut map: DynamicObject =
                serde_json::from_value(json!({ "metadata": {}, "data": { "run.json": "{}" } })).unwrap();
            keep_start(&mut map, &started).unwrap();
            let text = serde_json::to_string(&map).unwrap();
            assert!(text.len() < 1 << 20, "{}", text.len());
            assert_eq!(kept_start(&serde_json::from_str(&text).unwrap()).unwrap().unwrap(), started);
        }
    }
}
