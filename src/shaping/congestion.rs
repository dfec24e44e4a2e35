//! Congestion control of TCP on the routes of an interface.
//!
//! As the default of its own, a network namespace takes only algorithms that the kernel allows to everybody; a route
//! may have any algorithm of the kernel, and connections in both directions follow it.

use super::tool::{ShapingError, run};

/// Sets this congestion control on all routes through an interface, of IPv4 and IPv6; or removes it.
///
/// # Errors
/// Errors of `ip`; a kernel without the algorithm is one.
pub(super) fn set_congestion_control(interface: &str, name: Option<&str>) -> Result<(), ShapingError> {
    for family in ["-4", "-6"] {
        let Ok(routes) = run("ip", &format!("{family} route show dev {interface}")) else {
            // A kernel without IPv6 has no routes of it.
            continue;
        };
        for route in routes.lines() {
            if let Some(line) = replacement(route, interface, name) {
                run("ip", &format!("{family} route replace {line}"))?;
            }
        }
    }
    Ok(())
}

/// The route in the syntax of `ip`, with another congestion control; none if it has that already.
fn replacement(route: &str, interface: &str, name: Option<&str>) -> Option<String> {
    let mut words: Vec<&str> = route.split_whitespace().collect();
    let had = words.iter().position(|word| *word == "congctl").map(|at| {
        // `ip` writes `congctl NAME`, or `congctl lock NAME`.
        let length = if words.get(at + 1) == Some(&"lock") { 3 } else { 2 };
        let removed: Vec<&str> = words.drain(at..(at + length).min(words.len())).collect();
        removed.last().copied().unwrap_or_default()
    });
    let destination = words.first().copied()?;
    // Flags that `ip` shows and does not take.
    let rest: Vec<&str> = words[1..].iter().copied().filter(|word| *word != "linkdown").collect();
    let congestion = name.map(|name| format!(" congctl {name}")).unwrap_or_default();
    let line = format!("{destination} dev {interface} {}{congestion}", rest.join(" "));
    (had != name).then(|| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_keeps_all_but_its_congestion_control() {
        let plain = "10.77.0.0/16 proto kernel scope link src 10.77.0.1 ";
        let with = "10.77.0.0/16 dev eth0 proto kernel scope link src 10.77.0.1 congctl cubic";
        assert_eq!(replacement(plain, "eth0", Some("cubic")).unwrap(), with);
        let shown = "10.77.0.0/16 proto kernel scope link src 10.77.0.1 congctl cubic";
        assert_eq!(replacement(shown, "eth0", Some("cubic")), None);
        assert_eq!(replacement(shown, "eth0", None).unwrap(), with.replace(" congctl cubic", ""));
        assert_eq!(replacement(plain, "eth0", None), None);
        let far = "default via 172.17.0.1 linkdown";
        assert_eq!(replacement(far, "eth0", Some("bbr")).unwrap(), "default dev eth0 via 172.17.0.1 congctl bbr");
    }
}
