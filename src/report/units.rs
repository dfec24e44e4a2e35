//! Numbers in readable units.

/// Text of a value that is unknown.
pub(super) const NONE: &str = "-";

/// Microseconds in a readable unit.
pub(super) fn time(micros: Option<u64>) -> String {
    match micros {
        None => NONE.into(),
        Some(micros) if micros < 1_000 => format!("{micros} us"),
        Some(micros) if micros < 1_000_000 => format!("{:.2} ms", micros as f64 / 1e3),
        Some(micros) => format!("{:.3} s", micros as f64 / 1e6),
    }
}

/// Bytes in a readable unit, in powers of 1024.
pub fn bytes(count: f64) -> String {
    let mut count = count;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if count < 1024.0 {
            return if unit == "B" { format!("{count:.0} B") } else { format!("{count:.1} {unit}") };
        }
        count /= 1024.0;
    }
    format!("{count:.1} TiB")
}

/// Bytes in a readable unit, or the text of an unknown value.
pub(super) fn bytes_or_none(count: Option<u64>) -> String {
    count.map_or_else(|| NONE.into(), |count| bytes(count as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_fitting_units() {
        assert_eq!([time(Some(999)), time(Some(1500)), time(Some(3_000_000))], ["999 us", "1.50 ms", "3.000 s"]);
        assert_eq!([bytes(1023.0), bytes(1536.0), bytes(4.0 * 1024.0 * 1024.0)], ["1023 B", "1.5 KiB", "4.0 MiB"]);
    }
}
