//! Limits and redirections on the real kernel, and our requests as the netlink-packet crates read
//! them.
#![allow(clippy::unwrap_used, clippy::panic)]

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcMessage};

use super::*;
use crate::link::{Kind, NewLink};
use crate::{NetNs, Rtnl};

const BUCKET: TokenBucket = TokenBucket { rate: 1_250_000, buffer: 156_250, limit: 43_750 };

fn links(rtnl: &mut Rtnl) -> [u32; 2] {
    ["ifb7", "ifb8"].map(|name| {
        let new = NewLink {
            name,
            kind: Kind::Ifb,
            namespace: None,
            lower: None,
            mac: None,
            mtu: None,
            up: true,
        };
        rtnl.request(&new.create()).unwrap();
        rtnl.link_by_name(name).unwrap().unwrap().index
    })
}

fn of(rtnl: &mut Rtnl, link: u32) -> Vec<Qdisc> {
    rtnl.qdiscs().unwrap().into_iter().filter(|qdisc| qdisc.link == link).collect()
}

#[test]
fn a_limit_reads_back_is_replaced_and_goes() {
    let ns = NetNs::create().unwrap();
    let mut rtnl = Rtnl::open_in(&ns).unwrap();
    let [link, _] = links(&mut rtnl);
    let wide = TokenBucket { rate: 1 << 33, ..BUCKET };
    let longest = TokenBucket { buffer: TokenBucket::ticks(u64::MAX), ..BUCKET };
    for bucket in [BUCKET, wide, longest, BUCKET] {
        rtnl.request(&bucket.replace_root(link)).unwrap();
        let found = of(&mut rtnl, link);
        assert_eq!((found.len(), found[0].bucket), (1, Some(bucket)));
        assert!(found[0].is_root && found[0].kind == "tbf");
    }
    rtnl.request(&TokenBucket::delete_root(link)).unwrap();
    assert!(is_absent(&rtnl.request(&TokenBucket::delete_root(link)).unwrap_err()));
    assert!(of(&mut rtnl, link).iter().all(|qdisc| qdisc.bucket.is_none()));
}

#[test]
fn a_redirection_reads_back_and_goes() {
    let ns = NetNs::create().unwrap();
    let mut rtnl = Rtnl::open_in(&ns).unwrap();
    let [link, to] = links(&mut rtnl);
    assert_eq!(rtnl.redirections(link).unwrap(), (0, vec![]));
    for _ in 0..2 {
        rtnl.request(&add_ingress(link)).unwrap();
    }
    assert!(of(&mut rtnl, link).iter().any(Qdisc::is_ingress));
    rtnl.request(&redirect(link, to)).unwrap();
    assert_eq!(rtnl.redirections(link).unwrap().1, [to]);
    rtnl.request(&delete_redirect(link)).unwrap();
    assert_eq!(rtnl.redirections(link).unwrap(), (0, vec![]));
    assert!(is_absent(&rtnl.request(&delete_redirect(link)).unwrap_err()));
    rtnl.request(&delete_ingress(link)).unwrap();
    assert!(is_absent(&rtnl.request(&delete_ingress(link)).unwrap_err()));
}

fn read(message: &Message) -> TcMessage {
    let bytes = message.to_bytes();
    let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).unwrap();
    match parsed.payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewQueueDiscipline(message)
            | RouteNetlinkMessage::DelQueueDiscipline(message)
            | RouteNetlinkMessage::NewTrafficFilter(message)
            | RouteNetlinkMessage::DelTrafficFilter(message),
        ) => message,
        other => panic!("nothing of traffic control: {other:?}"),
    }
}

#[test]
fn requests_say_what_they_mean() {
    for (message, kind, handle, parent) in [
        (BUCKET.replace_root(7), Some("tbf"), "1:0", u32::MAX),
        (TokenBucket::delete_root(7), Some("tbf"), "1:0", u32::MAX),
        (add_ingress(7), Some("ingress"), "ffff:0", TC_H_INGRESS),
        (delete_ingress(7), Some("ingress"), "ffff:0", TC_H_INGRESS),
        (redirect(7, 8), Some("u32"), "0:0", ARRIVING),
        (delete_redirect(7), None, "0:0", ARRIVING),
    ] {
        let read = read(&message);
        let header = &read.header;
        let seen = format!("{:x}:{:x}", header.handle.major, header.handle.minor);
        assert_eq!((header.index, seen.as_str(), u32::from(header.parent)), (7, handle, parent));
        let named = read.attributes.iter().find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.as_str()),
            _ => None,
        });
        assert_eq!(named, kind);
    }
}
