//! Histograms as text. The text comes from another program, so its sizes are checked before it is decoded.

use std::io::Read;

use base64::{Engine, prelude::BASE64_STANDARD};
use flate2::read::ZlibDecoder;
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2DeflateSerializer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A histogram of microseconds in HDR's own encoding (V2, deflated), as base64.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct HistogramText(pub String);

/// First bytes of HDR's encodings: the deflated one, and the plain one inside.
const DEFLATED: u32 = 0x1c84_9314;
const PLAIN: u32 = 0x1c84_9313;

/// Precision of every histogram here, in decimal digits, and its lowest value.
const DIGITS: u32 = 3;
const LOWEST: u64 = 1;

/// Number of counts of the largest histogram, over all of `u64`: 3 digits need 2048 steps for the values below 2^11,
/// and half as many again for each of the 53 doublings from there to 2^64.
const MOST_COUNTS: u64 = 2048 + 53 * 1024;

/// Bytes of the plain encoding's header: cookie, payload's length, offset, digits (4 each), lowest, highest, ratio (8
/// each).
const HEADER: usize = 40;

/// Maximum size of the plain encoding, in bytes: each count takes at most 9.
const MOST_BYTES: usize = HEADER + 9 * MOST_COUNTS as usize;

/// Maximum length of the text, in characters: incompressible data grows by less than a thousandth, and base64 makes 4
/// characters of 3 bytes.
const MOST_TEXT: usize = (MOST_BYTES + MOST_BYTES / 1000 + 64) * 4 / 3;

/// Four bytes of a header, at `at`.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

/// The plain encoding in a deflated one, of a bounded size.
fn inflate(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if word(bytes, 0) != Some(DEFLATED) {
        return Err("it is no deflated histogram".into());
    }
    let mut plain = vec![];
    // The length in the header is not trusted: the stream has an end of its own.
    let stream = ZlibDecoder::new(bytes.get(8..).unwrap_or_default());
    stream.take(MOST_BYTES as u64 + 1).read_to_end(&mut plain).map_err(|error| error.to_string())?;
    if plain.len() > MOST_BYTES { Err(format!("it inflates to more than {MOST_BYTES} bytes")) } else { Ok(plain) }
}

/// Checks the header of a plain encoding, and returns the bytes after it.
fn payload(plain: &[u8]) -> Result<&[u8], String> {
    let Some(payload) = plain.get(HEADER..).filter(|_| word(plain, 0) == Some(PLAIN)) else {
        return Err("it has no header of a histogram".into());
    };
    if word(plain, 4).map(|length| length as usize) != Some(payload.len()) {
        return Err("it states another length than it has".into());
    }
    let lowest = plain.get(16..).and_then(<[u8]>::first_chunk).map(|bytes| u64::from_be_bytes(*bytes));
    if word(plain, 12) != Some(DIGITS) || lowest != Some(LOWEST) {
        return Err(format!("its values do not begin at {LOWEST} with {DIGITS} significant digits"));
    }
    Ok(payload)
}

/// Checks that counts, in HDR's own variable-length integers, are no more than a histogram has and fit into a `u64`
/// together. The decoder of the library does not check this.
fn check_counts(mut payload: &[u8]) -> Result<(), String> {
    let (mut index, mut total) = (0_u64, 0_u64);
    while !payload.is_empty() {
        let mut value = 0_u64;
        let mut length = 0;
        loop {
            let Some(byte) = payload.get(length) else { return Err("its last count is cut off".into()) };
            let last = length == 8;
            // The ninth byte has 8 bits, those before it 7 and a mark that another byte follows.
            value |= u64::from(if last { *byte } else { byte & 0x7f }) << (7 * length);
            length += 1;
            if last || byte & 0x80 == 0 {
                break;
            }
        }
        payload = payload.get(length..).unwrap_or_default();
        // Zigzag: odd numbers are negative, and mean this number of counts of zero.
        let (zeros, count) = if value & 1 == 1 { ((value >> 1).saturating_add(1), 0) } else { (1, value >> 1) };
        index = index.saturating_add(zeros);
        total = total.checked_add(count).ok_or("its counts add up to more than 2^64")?;
        if index > MOST_COUNTS {
            return Err(format!("it has more than {MOST_COUNTS} counts"));
        }
    }
    Ok(())
}

impl HistogramText {
    /// Encodes a histogram; an empty text for one that can't be encoded, which does not happen for histograms made
    /// here.
    pub fn encode(histogram: &Histogram<u64>) -> Self {
        let mut bytes = Vec::new();
        match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
            Ok(_) => Self(BASE64_STANDARD.encode(bytes)),
            Err(_) => Self::default(),
        }
    }

    /// True if the text has no histogram at all, not even an empty one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Decodes the histogram. Takes no more memory than the largest histogram, independent of the text.
    ///
    /// # Errors
    /// Fails if the text is no base64, its bytes are no histogram, or it is not one of those that are made here.
    pub fn decode(&self) -> Result<Histogram<u64>, String> {
        if self.0.len() > MOST_TEXT {
            return Err(format!("it is longer than {MOST_TEXT} characters"));
        }
        let bytes = BASE64_STANDARD.decode(&self.0).map_err(|error| error.to_string())?;
        let plain = inflate(&bytes)?;
        check_counts(payload(&plain)?)?;
        Deserializer::new().deserialize(&mut plain.as_slice()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn text(cookie: u32, plain: &[u8]) -> HistogramText {
        let mut deflated = ZlibEncoder::new(vec![], Compression::best());
        deflated.write_all(plain).unwrap();
        let deflated = deflated.finish().unwrap();
        let bytes = [&cookie.to_be_bytes()[..], &(deflated.len() as u32).to_be_bytes(), &deflated].concat();
        HistogramText(BASE64_STANDARD.encode(bytes))
    }

    fn header(length: u32, digits: u32, lowest: u64, highest: u64) -> Vec<u8> {
        let words = [PLAIN, length, 0, digits].map(u32::to_be_bytes).concat();
        let rest = [lowest, highest, 1.0_f64.to_bits()].map(u64::to_be_bytes).concat();
        [words, rest].concat()
    }

    fn reason(length: u32, digits: u32, lowest: u64, payload: &[u8]) -> String {
        let plain = [header(length, digits, lowest, u64::MAX), payload.to_vec()].concat();
        text(DEFLATED, &plain).decode().unwrap_err()
    }

    #[test]
    fn a_histogram_survives_its_text() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for value in [0, 1, 999, 1_000_000, u64::MAX / 2] {
            histogram.record(value).unwrap();
        }
        assert_eq!(HistogramText::encode(&histogram).decode().unwrap(), histogram);
        assert!(HistogramText("!".into()).decode().is_err());
        assert!(HistogramText::default().decode().is_err());
    }

    #[test]
    fn the_largest_histogram_is_within_the_bounds() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        histogram.record(u64::MAX).unwrap();
        assert_eq!(histogram.distinct_values() as u64, MOST_COUNTS);
        // Each value has a large count of its own, so that little can be compressed.
        let mut seed = 1_u64;
        for value in histogram.iter_all().map(|step| step.value_iterated_to()).collect::<Vec<_>>() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            histogram.record_n(value, seed >> 18).unwrap();
        }
        let text = HistogramText::encode(&histogram);
        assert!(text.0.len() > MOST_TEXT / 2);
        assert_eq!(text.decode().unwrap().len(), histogram.len());
    }

    #[test]
    fn a_short_text_that_states_a_large_size_is_refused() {
        assert!(reason(u32::MAX, DIGITS, LOWEST, &[2]).contains("another length"));
        assert!(reason(0, DIGITS, LOWEST, &[2]).contains("another length"));
        assert!(reason(1, 5, LOWEST, &[2]).contains("significant digits"));
        assert!(reason(1, DIGITS, 2, &[2]).contains("significant digits"));
        assert!(reason(9, DIGITS, LOWEST, &[0xff; 9]).contains("more than 56320 counts"));
        assert!(reason(18, DIGITS, LOWEST, &[[0xff; 8].as_slice(), &[0x7f]].concat().repeat(2)).contains("counts"));
        assert!(reason(1, DIGITS, LOWEST, &[0x80]).contains("cut off"));
        // Three times the largest even number.
        let large = [[0xfe].as_slice(), &[0xff; 8]].concat().repeat(3);
        assert!(reason(27, DIGITS, LOWEST, &large).contains("2^64"));
        let bomb = text(DEFLATED, &vec![0; 64 << 20]);
        assert!(bomb.0.len() < 100_000);
        assert!(bomb.decode().unwrap_err().contains("inflates to more than"));
        assert!(text(PLAIN, &header(0, DIGITS, LOWEST, 2)).decode().unwrap_err().contains("no deflated"));
        assert!(HistogramText("A".repeat(MOST_TEXT + 1)).decode().unwrap_err().contains("longer than"));
    }

    proptest! {
        #[test]
        fn no_counts_and_no_header_make_the_decoder_panic(
            payload in prop::collection::vec(any::<u8>(), 0..60), highest in any::<u64>(), lie in any::<bool>(),
        ) {
            let length = payload.len() as u32 + u32::from(lie);
            let plain = [header(length, DIGITS, LOWEST, highest), payload].concat();
            let decoded = text(DEFLATED, &plain).decode();
            prop_assert!(!lie || decoded.is_err());
            if let Ok(histogram) = decoded {
                prop_assert!(histogram.distinct_values() as u64 <= MOST_COUNTS);
                let mut sum = Histogram::<u64>::new(3).unwrap();
                sum.add(&histogram).unwrap();
                sum.add(&histogram).unwrap();
                let _ = (sum.mean(), sum.value_at_quantile(0.99), HistogramText::encode(&sum));
            }
        }
    }
}
