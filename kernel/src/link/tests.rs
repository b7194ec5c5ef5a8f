//! Links on the real kernel, in throw-away namespaces.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use nix::errno::Errno;

use super::*;
use crate::events::{Events, Topic};
use crate::{NetNs, Rtnl, sysctl};

const BRIDGE: Bridge<'static> =
    Bridge { name: "cbr0", mac: MacAddress([0x0a, 0x58, 10, 0, 1, 1]), mtu: None };

struct Lab {
    host: NetNs,
    pod: NetNs,
    rtnl: Rtnl,
}

impl Lab {
    fn new() -> Self {
        let host = NetNs::create().unwrap();
        let rtnl = Rtnl::open_in(&host).unwrap();
        Lab { host, pod: NetNs::create().unwrap(), rtnl }
    }

    fn bridge(&mut self) -> Link {
        self.rtnl.request(&BRIDGE.create()).unwrap();
        self.rtnl.link_by_name("cbr0").unwrap().unwrap()
    }

    fn veth(&mut self, bridge: &Link) -> Link {
        let veth = Veth {
            name: "vethtest",
            mac: MacAddress([0x0a, 1, 2, 3, 4, 5]),
            master: Some(bridge.index),
            mtu: Some(1400),
            peer: VethPeer {
                namespace: &self.pod,
                name: "eth0",
                mac: Some(MacAddress([0x0a, 0x58, 10, 0, 1, 2])),
            },
        };
        self.rtnl.request(&veth.create()).unwrap();
        self.rtnl.link_by_name("vethtest").unwrap().unwrap()
    }
}

#[test]
fn arp_notify_is_on_when_it_was_set() {
    let mut lab = Lab::new();
    let bridge = lab.bridge();
    lab.rtnl.request(&set_arp_notify(bridge.index)).unwrap();
    let read = |link| sysctl::get(&format!("net/ipv4/conf/{link}/arp_notify")).unwrap();
    let values = lab.host.run(|| [read("cbr0"), read("default")]).unwrap();
    assert_eq!(values, ["1", "0"]);
}

#[test]
fn a_bridge_keeps_the_mac_it_was_made_with() {
    let mut lab = Lab::new();
    let bridge = lab.bridge();
    assert_eq!(
        (bridge.kind.as_str(), bridge.mac, bridge.is_up()),
        ("bridge", Some(BRIDGE.mac), true)
    );
    lab.veth(&bridge);
    assert_eq!(lab.rtnl.link_by_index(bridge.index).unwrap().unwrap().mac, Some(BRIDGE.mac));
    assert!(lab.rtnl.request(&BRIDGE.create()).unwrap_err().is(Errno::EEXIST));
}

#[test]
fn a_veth_is_made_across_namespaces_in_one_request() {
    let mut lab = Lab::new();
    let bridge = lab.bridge();
    let host_end = lab.veth(&bridge);
    assert_eq!((host_end.master, host_end.mtu, host_end.is_up()), (Some(bridge.index), 1400, true));

    let mut inside = Rtnl::open_in(&lab.pod).unwrap();
    let pod_end = inside.link_by_name("eth0").unwrap().unwrap();
    assert_eq!((pod_end.mtu, pod_end.mac), (1400, Some(MacAddress([0x0a, 0x58, 10, 0, 1, 2]))));
    assert_eq!(host_end.peer, Some(pod_end.index));

    lab.rtnl.request(&delete(host_end.index)).unwrap();
    assert_eq!(lab.rtnl.link_by_name("vethtest").unwrap(), None);
    assert_eq!(inside.link_by_name("eth0").unwrap(), None);
    assert!(lab.rtnl.request(&delete(host_end.index)).unwrap_err().is_absent());
}

#[test]
fn a_port_forwards_once_both_ends_are_up() {
    let mut lab = Lab::new();
    let bridge = lab.bridge();
    let port = lab.veth(&bridge).index;
    let mut events = Events::open_in(&lab.host, Topic::Links).unwrap();
    let forwarding = |rtnl: &mut Rtnl| Ok(rtnl.link_by_index(port)?.filter(Link::is_forwarding));
    let early = events.wait(Duration::ZERO, || forwarding(&mut lab.rtnl)).unwrap();
    assert_eq!(early, None);

    let mut inside = Rtnl::open_in(&lab.pod).unwrap();
    let pod_end = inside.link_by_name("eth0").unwrap().unwrap();
    inside.request(&set_up(pod_end.index)).unwrap();
    let found = events.wait(Duration::from_secs(5), || forwarding(&mut lab.rtnl)).unwrap();
    assert!(found.is_some());
}

#[test]
fn of_links_in_an_unknown_state_only_a_bridge_with_carrier_runs() {
    let link = |kind: &str, flags: i32| Link {
        kind: kind.to_owned(),
        flags: flags as u32,
        operstate: OPERSTATE_UNKNOWN,
        ..Link::default()
    };
    assert!(link("bridge", libc::IFF_LOWER_UP).is_running());
    assert!(!link("bridge", libc::IFF_RUNNING).is_running());
    // A port has carrier before its queue is ready.
    assert!(!link("veth", libc::IFF_LOWER_UP).is_running());
}

#[test]
fn alias_hairpin_promiscuity_and_mac_are_set() {
    let mut lab = Lab::new();
    let bridge = lab.bridge();
    let index = lab.veth(&bridge).index;
    let mac = MacAddress([0x0a, 9, 9, 9, 9, 9]);
    let changes = [
        set_alias(index, "net/id/eth0"),
        set_hairpin(index, true),
        set_promiscuous(bridge.index, true),
        set_mac(index, mac),
    ];
    lab.rtnl.request_all(&changes).unwrap();
    let link = lab.rtnl.link_by_index(index).unwrap().unwrap();
    assert_eq!(
        (link.alias.as_str(), link.mac, link.port.unwrap().hairpin),
        ("net/id/eth0", Some(mac), true)
    );
    assert!(lab.rtnl.link_by_index(bridge.index).unwrap().unwrap().is_promiscuous());

    lab.rtnl
        .request_all(&[set_hairpin(index, false), set_promiscuous(bridge.index, false)])
        .unwrap();
    assert!(!lab.rtnl.link_by_index(index).unwrap().unwrap().port.unwrap().hairpin);
    assert!(!lab.rtnl.link_by_index(bridge.index).unwrap().unwrap().is_promiscuous());
}

#[test]
fn links_are_listed_and_absent_names_are_none() {
    let mut lab = Lab::new();
    lab.bridge();
    let mut names: Vec<_> = lab.rtnl.links().unwrap().into_iter().map(|link| link.name).collect();
    names.sort();
    assert!(names.contains(&"lo".to_owned()) && names.contains(&"cbr0".to_owned()), "{names:?}");
    let found = lab.rtnl.links_by_name(&["nosuch", "cbr0", "nosuch2"]).unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn one_refused_request_does_not_stop_the_next() {
    let mut lab = Lab::new();
    let lo = lab.rtnl.link_by_name("lo").unwrap().unwrap().index;
    let answers = lab.rtnl.batch(&[set_up(4_000_000), set_up(lo)]).unwrap();
    assert!(answers[0].as_ref().unwrap_err().is_absent());
    assert!(answers[1].is_ok());
    assert!(lab.rtnl.link_by_index(lo).unwrap().unwrap().is_up());
}

#[test]
fn a_link_on_top_of_one_of_the_host_is_made_in_another_namespace() {
    let mut lab = Lab::new();
    let lower = lab.bridge();
    let kind = Kind::Macvlan { mode: MacvlanMode::Bridge, broadcast_queue: None };
    let new = NewLink {
        name: "eth0",
        kind,
        namespace: Some(&lab.pod),
        lower: Some(lower.index),
        mac: Some(MacAddress([0x0a, 9, 9, 9, 9, 9])),
        mtu: Some(1400),
        up: false,
    };
    lab.rtnl.request(&new.create()).unwrap();
    assert_eq!(lab.rtnl.link_by_name("eth0").unwrap(), None);
    let made = Rtnl::open_in(&lab.pod).unwrap().link_by_name("eth0").unwrap().unwrap();
    assert_eq!((made.kind.as_str(), made.mac, made.mtu), ("macvlan", new.mac, 1400));
    assert_eq!((made.peer, made.is_up()), (Some(lower.index), false));
    let Some(Kind::Macvlan { mode, .. }) = made.made_as else { unreachable!() };
    assert_eq!(mode, MacvlanMode::Bridge);
    assert!(lab.rtnl.request(&new.create()).unwrap_err().is(Errno::EEXIST));
}

#[test]
fn a_kind_that_the_kernel_does_not_know_is_told() {
    let mut lab = Lab::new();
    assert!(lab.rtnl.knows_link_kind("bridge").unwrap());
    assert!(!lab.rtnl.knows_link_kind("nosuchkind").unwrap());
    assert!(lab.rtnl.knows_link_kind("macvlan").unwrap());
}

#[test]
fn asking_for_a_kind_makes_nothing() {
    let mut lab = Lab::new();
    let before = lab.rtnl.links().unwrap();
    let mode = MacvlanMode::Bridge;
    let kinds = [
        Kind::Dummy,
        Kind::Macvlan { mode, broadcast_queue: None },
        Kind::Ipvlan { mode: IpvlanMode::L2 },
        Kind::Vlan { id: 1 },
        Kind::Vrf { table: 1 },
    ];
    for kind in kinds {
        let told = lab.rtnl.probe_link_kind(kind);
        assert_eq!(lab.rtnl.links().unwrap(), before, "{kind:?}");
        let known = lab.rtnl.knows_link_kind(kind.name()).unwrap();
        match told {
            Ok(()) => assert!(known, "{kind:?}"),
            Err(error) => assert!(!known && error.is(Errno::EOPNOTSUPP), "{kind:?}: {error}"),
        }
        if let Some(made) = lab.rtnl.link_by_name(kind.name()).unwrap() {
            lab.rtnl.request(&delete(made.index)).unwrap();
        }
    }
}

#[test]
fn a_link_moves_to_another_namespace_under_another_name() {
    let mut lab = Lab::new();
    let bridge = lab.bridge();
    let index = lab.veth(&bridge).index;
    lab.rtnl.request(&set_alias(index, "whose")).unwrap();
    let mut inside = Rtnl::open_in(&lab.pod).unwrap();
    lab.rtnl.request(&move_to(index, &lab.pod, "eth1")).unwrap();
    assert_eq!(lab.rtnl.link_by_name("vethtest").unwrap(), None);
    let moved = inside.link_by_name("eth1").unwrap().unwrap();
    assert_eq!((moved.alias.as_str(), moved.is_up(), moved.master), ("whose", false, None));

    // Where both names are taken the link stays where it is.
    let taken = BRIDGE;
    lab.rtnl.request(&Bridge { name: "eth1", ..taken.clone() }.create()).unwrap();
    let refused = inside.request(&move_to(moved.index, &lab.host, "cbr0")).unwrap_err();
    assert!(refused.is(Errno::EEXIST));
    assert!(inside.link_by_name("eth1").unwrap().is_some());
    inside.request(&move_to(moved.index, &lab.host, "back")).unwrap();
    assert!(lab.rtnl.link_by_name("back").unwrap().is_some());
}
