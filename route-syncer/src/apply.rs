//! Making it so: the changes, sent to the kernel.

use kernel::Rtnl;
use kernel::route;

use crate::difference::Change;
use crate::observed::Route;

/// Sends the changes, in their order, and returns an answer for each. One that fails does not stop
/// those behind it.
///
/// A new route is made with `NLM_F_EXCL`: should another have come since the kernel was read, the
/// answer is `EEXIST`, and the next reading tells whose it is. Without the flag IPv6 would add a
/// second next hop, and half of the flows would go to the wrong node.
///
/// # Errors
/// The socket fails; then it is unknown which changes took effect.
pub fn apply(rtnl: &mut Rtnl, changes: &[Change]) -> kernel::Result<Vec<kernel::Result<()>>> {
    let message = |change: &Change| match change {
        Change::Add(route) => route::add(&kernel_route(route)),
        Change::Replace(route) => route::replace(&kernel_route(route)),
        Change::Delete(route) => route::delete(&kernel_route(route)),
    };
    let answers = rtnl.batch(&changes.iter().map(message).collect::<Vec<_>>())?;
    let judged = answers.into_iter().zip(changes).map(|(answer, change)| match (answer, change) {
        // Somebody was faster.
        (Err(error), Change::Delete(_)) if error.is_absent() => Ok(()),
        (answer, _) => answer,
    });
    Ok(judged.collect())
}

/// All that is known of the route goes into the message. What a deletion does not name it does not
/// compare, and it might take a foreign route away.
fn kernel_route(route: &Route) -> route::Route {
    route::Route {
        gateway: route.gateway,
        on_link: route.on_link,
        link: route.link,
        protocol: route.protocol,
        priority: route.metric,
        kind: route.kind,
        scope: route.scope,
        ..route::Route::new(route.destination)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::net::IpAddr;

    use kernel::link::Bridge;
    use kernel::route::TABLE_MAIN;
    use kernel::{MacAddress, NetNs, address};

    use super::*;
    use crate::desired::NextHop;
    use crate::difference::wanted;

    const OURS: u8 = 214;
    const STATIC: u8 = 4;

    fn node() -> (Rtnl, u32) {
        let mut rtnl = Rtnl::open_in(&NetNs::create().unwrap()).unwrap();
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        rtnl.request(&Bridge { name: "uplink0", mac, mtu: None }.create()).unwrap();
        let link = rtnl.link_by_name("uplink0").unwrap().unwrap().index;
        for own in ["10.100.0.1/24", "fd00:100::1/64"] {
            rtnl.request(&address::add(link, own.parse().unwrap(), false)).unwrap();
        }
        (rtnl, link)
    }

    fn route(destination: &str, gateway: &str, link: u32, protocol: u8) -> Route {
        let gateway: IpAddr = gateway.parse().unwrap();
        wanted(destination.parse().unwrap(), NextHop { gateway, link, on_link: false }, protocol)
    }

    fn make(rtnl: &mut Rtnl, change: Change) -> kernel::Result<()> {
        apply(rtnl, &[change]).unwrap().remove(0)
    }

    fn found(rtnl: &mut Rtnl, destination: &str) -> Vec<(u8, Option<IpAddr>)> {
        let destination = destination.parse().unwrap();
        let all = rtnl.routes(TABLE_MAIN).unwrap().into_iter();
        all.filter(|route| route.destination == destination)
            .map(|route| (route.protocol, route.gateway))
            .collect()
    }

    const CASES: [(&str, &str, &str); 2] = [
        ("10.0.2.0/24", "10.100.0.2", "10.100.0.9"),
        ("fd00:2::/64", "fd00:100::2", "fd00:100::9"),
    ];

    #[test]
    fn a_route_that_came_meanwhile_is_not_touched() {
        let (mut rtnl, link) = node();
        for (destination, theirs, ours) in CASES {
            let theirs = route(destination, theirs, link, STATIC);
            make(&mut rtnl, Change::Add(theirs)).unwrap();
            let added = make(&mut rtnl, Change::Add(route(destination, ours, link, OURS)));
            assert!(added.unwrap_err().is(nix::errno::Errno::EEXIST));
            assert_eq!(found(&mut rtnl, destination), [(STATIC, theirs.gateway)]);
        }
    }

    #[test]
    fn a_deletion_takes_no_foreign_route() {
        let (mut rtnl, link) = node();
        for (destination, gateway, _) in CASES {
            let theirs = route(destination, gateway, link, STATIC);
            make(&mut rtnl, Change::Add(theirs)).unwrap();
            // That ours is gone already is as good as if it had been deleted now.
            make(&mut rtnl, Change::Delete(route(destination, gateway, link, OURS))).unwrap();
            assert_eq!(found(&mut rtnl, destination), [(STATIC, theirs.gateway)]);
        }
    }

    #[test]
    fn p27_one_refused_change_does_not_stop_those_behind_it() {
        let (mut rtnl, link) = node();
        let unreachable = Change::Add(route("10.0.2.0/24", "192.0.2.1", link, OURS));
        let sane = Change::Add(route("10.0.3.0/24", "10.100.0.3", link, OURS));
        let answers = apply(&mut rtnl, &[unreachable, sane]).unwrap();
        assert!(answers[0].is_err() && answers[1].is_ok());
        assert_eq!(found(&mut rtnl, "10.0.3.0/24").len(), 1);
    }
}
