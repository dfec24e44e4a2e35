//! Handles of the qdiscs and classes that a batch makes.

/// Handles, all below 0x8000, where the kernel's own begin: rate, classes and sink of a whole interface, and the tbf
/// that splits its packets; then those of class k (0 is every peer without a rule): queue, netem, rate, and again the
/// tbf.
pub(super) const INTERFACE_RATE: u32 = 0xab0;
pub(super) const CLASSES: u32 = 0xab1;
pub(super) const SINK: u32 = 0xab2;
pub(super) const INTERFACE_APART: u32 = 0xab3;
pub(super) const QUEUE: u32 = 0x4000;
pub(super) const NETEM: u32 = 0x5000;
pub(super) const RATE: u32 = 0x6000;
pub(super) const APART: u32 = 0x7000;

/// True if [`super::batch()`] makes root qdiscs of this kind and handle, as `tc` writes them.
pub(super) fn is_own_root(kind: &str, handle: &str) -> bool {
    let own: &[u32] = match kind {
        "tbf" => &[INTERFACE_APART, APART],
        "htb" => &[CLASSES],
        "netem" => &[NETEM],
        _ => &[],
    };
    u32::from_str_radix(handle.trim_end_matches(':'), 16).is_ok_and(|handle| own.contains(&handle))
}

/// True if the handle is that of a qdisc that limits a rate.
pub(super) fn is_rate(handle: &str) -> bool {
    let handle = u32::from_str_radix(handle.trim_end_matches(':'), 16);
    handle.is_ok_and(|handle| handle == INTERFACE_RATE || (RATE..APART).contains(&handle))
}

/// True if it is the handle of the qdisc in which blocked packets end.
pub(super) fn is_sink(handle: &str) -> bool {
    handle.trim_end_matches(':') == format!("{SINK:x}")
}

/// Handles of the qdiscs that shape the traffic to the peer at this place of a plan's peers.
pub(super) fn peer_handles(place: usize) -> [String; 2] {
    let at = u32::try_from(place).unwrap_or(u32::MAX).saturating_add(1);
    [NETEM, RATE].map(|first| format!("{:x}:", first.saturating_add(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_qdiscs_of_a_rate_are_told_by_their_handle() {
        for handle in ["ab0:", "6000:", "67d0:"] {
            assert!(is_rate(handle), "{handle}");
        }
        for handle in ["ab1:", "5000:", "7000:", "8001:", "", "x"] {
            assert!(!is_rate(handle), "{handle}");
        }
    }

    #[test]
    fn only_our_own_roots_are_ours() {
        for (kind, handle) in [("tbf", "ab3:"), ("htb", "ab1:"), ("netem", "5000:"), ("tbf", "7000:")] {
            assert!(is_own_root(kind, handle), "{kind} {handle}");
        }
        for (kind, handle) in [
            ("tbf", "0:"),
            ("tbf", "8001:"),
            ("htb", "1:"),
            ("htb", "6000:"),
            ("pfifo", "5000:"),
            ("tbf", ""),
            ("tbf", "x"),
        ] {
            assert!(!is_own_root(kind, handle), "{kind} {handle}");
        }
    }
}
