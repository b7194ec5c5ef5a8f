//! Our requests, read by the netlink-packet crates: an encoder that is not ours must see in them
//! what we meant.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;

use netlink_packet_core::{Emitable, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, InfoBridge, InfoBridgePort, InfoData,
    InfoIpVlan, InfoKind, InfoMacVlan, InfoPortData, InfoVeth, InfoVlan, InfoVrf, InfoVxlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::*;
use crate::NetNs;
use crate::netlink::Message;

fn read(message: &Message) -> (u32, RouteNetlinkMessage) {
    let bytes = message.to_bytes();
    let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).unwrap();
    assert_eq!(parsed.header.length as usize, bytes.len());
    let NetlinkPayload::InnerMessage(inner) = parsed.payload else {
        panic!("no request: {parsed:?}")
    };
    (parsed.header.flags.into(), inner)
}

fn new_link(message: &Message) -> LinkMessage {
    let (_, RouteNetlinkMessage::NewLink(link)) = read(message) else {
        panic!("no new link: {message:?}")
    };
    link
}

fn info(link: &LinkMessage) -> &[LinkInfo] {
    let found = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => Some(&info[..]),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_veth_request_says_what_it_means() {
    let ns = NetNs::current().unwrap();
    let mac = MacAddress([2, 0, 0, 0, 0, 1]);
    let peer = VethPeer { namespace: &ns, name: "eth0", mac: Some(MacAddress([2, 0, 0, 0, 0, 2])) };
    let message = Veth { name: "veth0", mac, master: Some(7), mtu: Some(1400), peer }.create();
    let (flags, _) = read(&message);
    let wanted = libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    assert_eq!(flags, wanted as u32);

    let link = new_link(&message);
    assert_eq!((link.header.flags, link.header.change_mask), (LinkFlags::Up, LinkFlags::Up));
    for attribute in [
        LinkAttribute::IfName("veth0".into()),
        LinkAttribute::Address(mac.0.to_vec()),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
        LinkAttribute::Controller(7),
        LinkAttribute::Mtu(1400),
    ] {
        assert!(link.attributes.contains(&attribute), "{attribute:?} in {:?}", link.attributes);
    }
    let [LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))] =
        info(&link)
    else {
        panic!("no veth: {link:?}")
    };
    assert_eq!(
        peer.attributes,
        [
            LinkAttribute::IfName("eth0".into()),
            LinkAttribute::NumTxQueues(1),
            LinkAttribute::NumRxQueues(1),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 2]),
            LinkAttribute::Mtu(1400),
            LinkAttribute::NetNsFd(ns.as_raw_fd()),
        ]
    );
}

#[test]
fn bridge_and_port_requests_say_what_they_mean() {
    let bridge =
        new_link(&Bridge { name: "cbr0", mac: MacAddress([2, 0, 0, 0, 0, 3]), mtu: None }.create());
    assert_eq!(info(&bridge), [LinkInfo::Kind(InfoKind::Bridge)]);
    assert!(bridge.attributes.contains(&LinkAttribute::IfName("cbr0".into())));

    let bridge = Bridge { name: "cbr1", mac: MacAddress([2, 0, 0, 0, 0, 4]), mtu: None };
    let options = BridgeOptions { vlan_filtering: true, group: 7 };
    let filtering = new_link(&bridge.create_with(options));
    let data = LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)]));
    assert_eq!(info(&filtering)[1], data);
    assert!(filtering.attributes.contains(&LinkAttribute::Group(7)));

    let port = new_link(&set_isolated(9, true));
    let [_, LinkInfo::PortData(InfoPortData::BridgePort(data))] = info(&port) else {
        panic!("no port: {port:?}")
    };
    assert_eq!(*data, [InfoBridgePort::Isolated(true)]);

    let port = new_link(&set_hairpin(9, true));
    assert_eq!(port.header.index, 9);
    let [_, LinkInfo::PortData(InfoPortData::BridgePort(data))] = info(&port) else {
        panic!("no port: {port:?}")
    };
    assert_eq!(*data, [InfoBridgePort::HairpinMode(true)]);
}

#[test]
fn changes_of_vlans_say_what_they_mean() {
    let vlans = [PortVlan::tagged(200..=210), PortVlan::native(100)];
    let info = |vid, flags| AfSpecBridge::VlanInfo(BridgeVlanInfo { vid, flags });
    let wanted = LinkAttribute::AfSpecBridge(vec![
        info(200, BridgeVlanInfoFlags::RangeBegin),
        info(210, BridgeVlanInfoFlags::RangeEnd),
        info(100, BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged),
    ]);
    let (_, RouteNetlinkMessage::SetLink(add)) = read(&add_vlans(9, &vlans)) else {
        panic!("no set")
    };
    let (_, RouteNetlinkMessage::DelLink(delete)) = read(&delete_vlans(9, &vlans)) else {
        panic!("no delete")
    };
    for message in [add, delete] {
        assert_eq!(
            (message.header.interface_family, message.header.index),
            (AddressFamily::Bridge, 9)
        );
        assert_eq!(message.attributes, std::slice::from_ref(&wanted));
    }
}

#[test]
fn changes_say_what_they_mean() {
    let (_, RouteNetlinkMessage::SetLink(alias)) = read(&set_alias(5, "a/b/c")) else {
        panic!("no set")
    };
    assert_eq!(
        (alias.header.index, &alias.attributes[..]),
        (5, &[LinkAttribute::IfAlias("a/b/c".into())][..])
    );
    let ns = NetNs::current().unwrap();
    let moved = move_to(5, &ns, "eth0");
    let to = LinkAttribute::NetNsFd(ns.as_raw_fd());
    for (message, attributes) in [
        (set_name(5, "eth0"), vec![LinkAttribute::IfName("eth0".into())]),
        (set_mtu(5, 1400), vec![LinkAttribute::Mtu(1400)]),
        (set_transmit_queue(5, 321), vec![LinkAttribute::TxQueueLen(321)]),
        (set_master(5, Some(7)), vec![LinkAttribute::Controller(7)]),
        (set_master(5, None), vec![LinkAttribute::Controller(0)]),
        (moved, vec![to, LinkAttribute::IfName("eth0".into())]),
    ] {
        let (_, RouteNetlinkMessage::SetLink(set)) = read(&message) else { panic!("no set") };
        assert_eq!((set.header.index, set.attributes), (5, attributes));
    }
    let (_, RouteNetlinkMessage::SetLink(down)) = read(&set_down(5)) else { panic!("no set") };
    assert_eq!((down.header.flags, down.header.change_mask), (LinkFlags::empty(), LinkFlags::Up));
    for (on, flags) in [(true, LinkFlags::Allmulti), (false, LinkFlags::empty())] {
        let changed = set_all_multicast(5, on);
        let (_, RouteNetlinkMessage::SetLink(set)) = read(&changed) else { panic!("no set") };
        assert_eq!((set.header.flags, set.header.change_mask), (flags, LinkFlags::Allmulti));
    }
    let (_, RouteNetlinkMessage::DelLink(gone)) = read(&delete(5)) else { panic!("no delete") };
    assert_eq!(gone.header.index, 5);
}

/// The kinds that are made by [`NewLink`], with what the oracle must see in each.
fn kinds() -> [(Kind, InfoKind, Option<InfoData>); 8] {
    use netlink_packet_route::link;
    [
        (Kind::Dummy, InfoKind::Dummy, None),
        (Kind::Ifb, InfoKind::Ifb, None),
        (
            Kind::Macvlan { mode: MacvlanMode::Bridge, broadcast_queue: Some(7) },
            InfoKind::MacVlan,
            Some(InfoData::MacVlan(vec![
                InfoMacVlan::Mode(link::MacVlanMode::Bridge),
                InfoMacVlan::BcQueueLen(7),
            ])),
        ),
        (
            Kind::Ipvlan { mode: IpvlanMode::L3s },
            InfoKind::IpVlan,
            Some(InfoData::IpVlan(vec![InfoIpVlan::Mode(link::IpVlanMode::L3S)])),
        ),
        (Kind::Vlan { id: 100 }, InfoKind::Vlan, Some(InfoData::Vlan(vec![InfoVlan::Id(100)]))),
        (
            Kind::Vrf { table: 1001 },
            InfoKind::Vrf,
            Some(InfoData::Vrf(vec![InfoVrf::TableId(1001)])),
        ),
        vxlan(InfoVxlan::Local(Ipv4Addr::new(10, 100, 0, 2)), [10, 100, 0, 2].into()),
        vxlan(InfoVxlan::Local6(Ipv6Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()),
    ]
}

fn vxlan(told: InfoVxlan, local: IpAddr) -> (Kind, InfoKind, Option<InfoData>) {
    let data = vec![told, InfoVxlan::Id(1), InfoVxlan::Port(8472), InfoVxlan::Learning(false)];
    let vxlan = Vxlan { id: 1, local: Some(local), port: 8472, learning: false };
    (Kind::Vxlan(vxlan), InfoKind::Vxlan, Some(InfoData::Vxlan(data)))
}

#[test]
fn new_links_of_each_kind_say_what_they_mean() {
    let ns = NetNs::current().unwrap();
    let mac = MacAddress([2, 0, 0, 0, 0, 1]);
    for (kind, info_kind, data) in kinds() {
        let (namespace, mac, mtu) = (Some(&ns), Some(mac), Some(1400));
        let new = NewLink { name: "eth0", kind, namespace, lower: Some(7), mac, mtu, up: true };
        let link = new_link(&new.create());
        for attribute in [
            LinkAttribute::IfName("eth0".into()),
            LinkAttribute::Link(7),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1]),
            LinkAttribute::Mtu(1400),
            LinkAttribute::NetNsFd(ns.as_raw_fd()),
        ] {
            assert!(link.attributes.contains(&attribute), "{attribute:?} in {:?}", link.attributes);
        }
        let info = info(&link);
        assert_eq!(info[0], LinkInfo::Kind(info_kind));
        if let Some(data) = data {
            assert_eq!(info[1], LinkInfo::Data(data));
        }
    }
}

#[test]
fn the_kernels_answer_tells_what_a_link_was_told() {
    for (kind, info_kind, data) in kinds() {
        let mut message = LinkMessage::default();
        let info = [LinkInfo::Kind(info_kind)].into_iter().chain(data.map(LinkInfo::Data));
        message.attributes = vec![LinkAttribute::LinkInfo(info.collect())];
        let mut payload = vec![0; message.buffer_len()];
        message.emit(&mut payload);
        let link = Link::parse(&Reply { kind: libc::RTM_NEWLINK, payload });
        assert_eq!(link.made_as, Some(kind));
    }
}
