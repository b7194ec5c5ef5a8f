//! Forwarding: without it the kernel drops what Pods send to other nodes.

use kernel::sysctl::{self, SysctlError};

use super::{Finding, Mode};
use crate::observed::Observed;

const IPV4: &str = "net/ipv4/ip_forward";
const IPV6: &str = "net/ipv6/conf/all/forwarding";
/// Routes that were learned from a router advertisement (`RTPROT_RA`).
const PROTOCOL_RA: u8 = 9;

/// The address families that the cluster uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// Whether there are IPv4 ranges.
    pub ipv4: bool,
    /// Whether there are IPv6 ranges.
    pub ipv6: bool,
}

/// Turns on forwarding for the families in use, or looks whether it is on.
pub fn settle(families: Families, observed: &Observed, mode: Mode) -> Finding {
    let dotted = |keys: &[&str]| keys.join(" and ").replace('/', ".");
    match mode {
        Mode::Set => match turn_on(families, observed) {
            Ok(written) if written.is_empty() => Finding::ok(""),
            Ok(written) => {
                let keys: Vec<&str> = written.iter().map(String::as_str).collect();
                Finding::set(format!("turned on {}", dotted(&keys)))
            }
            Err(problem) => Finding::failed(format!("forwarding cannot be turned on: {problem}")),
        },
        Mode::Look => match lacking(families) {
            Ok(keys) if keys.is_empty() => Finding::ok(""),
            Ok(keys) => {
                let remedies = keys.iter().map(|key| format!("sysctl -w {}=1", dotted(&[key])));
                let remedies: Vec<_> = remedies.collect();
                Finding::lacking(format!(
                    "packets of Pods are dropped: {} is 0; turn it on: {}",
                    dotted(&keys),
                    remedies.join("; ")
                ))
            }
            Err(problem) => Finding::failed(problem.to_string()),
        },
    }
}

/// Turns on forwarding for the families in use. It is never turned off: others may rely on it.
/// Returns the settings that were written; one that is as it should be is only read.
///
/// # Errors
/// A setting cannot be read or written. A kernel without IPv6 has nothing to turn on.
pub fn turn_on(families: Families, observed: &Observed) -> Result<Vec<String>, SysctlError> {
    let mut written = Vec::new();
    if families.ipv4 && sysctl::set(IPV4, "1")? {
        written.push(IPV4.to_owned());
    }
    if families.ipv6 {
        match sysctl::get(IPV6) {
            Ok(value) if value == "1" => {}
            Ok(_) => {
                written.extend(keep_learned_routes(observed)?);
                sysctl::set(IPV6, "1")?;
                written.push(IPV6.to_owned());
            }
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// The settings of the families in use that are off.
///
/// # Errors
/// A setting cannot be read. A kernel without IPv6 has nothing that is off.
pub fn lacking(families: Families) -> Result<Vec<&'static str>, SysctlError> {
    let mut lacking = Vec::new();
    for (key, in_use) in [(IPV4, families.ipv4), (IPV6, families.ipv6)] {
        match sysctl::get(key) {
            Ok(value) if in_use && value == "0" => lacking.push(key),
            Ok(_) => {}
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(lacking)
}

/// A kernel that forwards IPv6 takes itself for a router: it drops the default route that a router
/// advertised and listens to no more. Where such a route is in use, `accept_ra` 2 keeps it.
fn keep_learned_routes(observed: &Observed) -> Result<Vec<String>, SysctlError> {
    let learned = observed.routes.iter().filter(|route| route.protocol == PROTOCOL_RA);
    let mut written = Vec::new();
    for link in learned.filter_map(|route| route.link) {
        let key = format!("net/ipv6/conf/{}/accept_ra", observed.link_name(link));
        if sysctl::get(&key)? == "1" && sysctl::set(&key, "2")? {
            written.push(key);
        }
    }
    Ok(written)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use kernel::NetNs;

    use super::*;
    use crate::observed::{Link, Route};

    const BOTH: Families = Families { ipv4: true, ipv6: true };

    #[test]
    fn only_the_families_in_use_are_turned_on_and_only_once() {
        NetNs::create()
            .unwrap()
            .run(|| {
                sysctl::set(IPV4, "0").unwrap();
                sysctl::set(IPV6, "0").unwrap();
                let nothing = Observed::default();
                let only6 = Families { ipv4: false, ipv6: true };
                assert_eq!(turn_on(only6, &nothing).unwrap(), [IPV6]);
                assert_eq!(sysctl::get(IPV4).unwrap(), "0");
                assert_eq!(turn_on(BOTH, &nothing).unwrap(), [IPV4]);
                assert!(turn_on(BOTH, &nothing).unwrap().is_empty());
            })
            .unwrap();
    }

    #[test]
    fn an_advertised_default_route_is_kept() {
        NetNs::create()
            .unwrap()
            .run(|| {
                sysctl::set(IPV6, "0").unwrap();
                let route = Route {
                    destination: "::/0".parse().unwrap(),
                    metric: 1024,
                    protocol: PROTOCOL_RA,
                    kind: 1,
                    scope: 0,
                    gateway: None,
                    on_link: false,
                    link: Some(1),
                };
                let name = "lo".into();
                let link = Link { index: 1, name, up: true, carrier: true, mtu: None };
                let observed =
                    Observed { links: vec![link], routes: vec![route], ..Observed::default() };
                sysctl::set("net/ipv6/conf/lo/accept_ra", "1").unwrap();
                let written = turn_on(BOTH, &observed).unwrap();
                assert!(written.contains(&"net/ipv6/conf/lo/accept_ra".to_owned()), "{written:?}");
                assert_eq!(sysctl::get("net/ipv6/conf/lo/accept_ra").unwrap(), "2");
            })
            .unwrap();
    }
}
