//! A change in the words of `ip-route(8)`: what people would type to make it.

use kernel::route::SCOPE_UNIVERSE;
use nix::libc;

use crate::difference::{Change, Difference};
use crate::observed::{Observed, Route};

/// The commands that make the changes, in their order. The links' names are those observed.
pub fn commands(difference: &Difference, observed: &Observed) -> Vec<String> {
    difference.changes.iter().map(|change| command(change, observed)).collect()
}

fn command(change: &Change, observed: &Observed) -> String {
    let verb = match change {
        Change::Add(_) => "add",
        Change::Replace(_) => "replace",
        Change::Delete(_) => "del",
    };
    let route = change.route();
    let program = if route.destination.is_ipv4() { "ip" } else { "ip -6" };
    format!("{program} route {verb} {}", words(route, observed))
}

/// All that is known of the route, as in the request that the daemon sends.
fn words(route: &Route, observed: &Observed) -> String {
    let mut words = kind(route.kind).map(|kind| format!("{kind} ")).unwrap_or_default();
    words += &route.destination.to_string();
    if let Some(gateway) = route.gateway {
        words += &format!(" via {gateway}");
    }
    if let Some(link) = route.link {
        words += &format!(" dev {}", observed.link_name(link));
    }
    if route.on_link {
        words += " onlink";
    }
    words += &format!(" proto {}", route.protocol);
    if route.metric != 0 {
        words += &format!(" metric {}", route.metric);
    }
    // To IPv6 there is but one scope.
    if route.destination.is_ipv4() {
        words += &scope(route);
    }
    words
}

/// The word for a route's kind; none is needed for the usual one.
fn kind(kind: u8) -> Option<String> {
    Some(match kind {
        libc::RTN_UNICAST => return None,
        libc::RTN_BLACKHOLE => "blackhole".to_owned(),
        libc::RTN_UNREACHABLE => "unreachable".to_owned(),
        libc::RTN_PROHIBIT => "prohibit".to_owned(),
        libc::RTN_THROW => "throw".to_owned(),
        other => other.to_string(),
    })
}

/// What `ip` takes for granted of a unicast route without a gateway is the scope of the link.
fn scope(route: &Route) -> String {
    let is_told = route.scope != SCOPE_UNIVERSE
        || (route.gateway.is_none() && route.kind == libc::RTN_UNICAST);
    if is_told { format!(" scope {}", route.scope) } else { String::new() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::desired::NextHop;
    use crate::difference::wanted;
    use crate::observed::Link;

    fn route(destination: &str, gateway: &str) -> Route {
        let next_hop = NextHop { gateway: gateway.parse().unwrap(), link: 7, on_link: false };
        wanted(destination.parse().unwrap(), next_hop, 214)
    }

    #[test]
    fn changes_are_told_as_one_would_type_them() {
        let v4 = route("10.0.2.0/24", "10.100.0.2");
        let v6 = route("fd00:2::/64", "fd00:100::2");
        let other = Route { gateway: None, link: None, ..v4 };
        let dead = Route { kind: libc::RTN_BLACKHOLE, metric: 4096, ..other };
        let on_link = Route { gateway: None, scope: libc::RT_SCOPE_LINK, ..v4 };
        let changes = vec![
            Change::Add(v4),
            Change::Replace(v6),
            Change::Delete(other),
            Change::Delete(dead),
            Change::Delete(on_link),
        ];
        let link = Link { index: 7, name: "eth0".into(), up: true, carrier: true, mtu: None };
        let observed = Observed { links: vec![link], ..Observed::default() };
        let difference = Difference { changes, ..Difference::default() };
        assert_eq!(
            commands(&difference, &observed),
            [
                "ip route add 10.0.2.0/24 via 10.100.0.2 dev eth0 proto 214",
                "ip -6 route replace fd00:2::/64 via fd00:100::2 dev eth0 proto 214 metric 1024",
                "ip route del 10.0.2.0/24 proto 214 scope 0",
                "ip route del blackhole 10.0.2.0/24 proto 214 metric 4096",
                "ip route del 10.0.2.0/24 dev eth0 proto 214 scope 253",
            ]
        );
    }
}
