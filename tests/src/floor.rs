//! A host as the program `floor` finds it: it does not make what the first attachment makes for all.

use ipnetwork::IpNetwork;
use kernel::link::Bridge;
use kernel::nft::{Chain, Expression, Family, Field, Hook, KeyType, Nft, Set, SetKind, Table};
use kernel::{MacAddress, address, netlink, sysctl};

use crate::error::{LabError, Result};
use crate::node::Node;

/// Makes the bridge with its addresses, has the host forward, and puts the rule there that
/// masquerades.
///
/// # Errors
/// The kernel refuses.
pub fn prepare(host: &Node) -> Result<()> {
    let mac = MacAddress([0x0a, 0x58, 10, 88, 0, 1]);
    let mut rtnl = host.rtnl()?;
    rtnl.request(&Bridge { name: "cbr0", mac, mtu: None }.create())?;
    let bridge = rtnl.link_by_name("cbr0")?.map_or(0, |bridge| bridge.index);
    for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        host.netns().run(|| sysctl::set(setting, "1"))??;
    }
    host.netns().run(|| sysctl::set("net/ipv6/conf/cbr0/accept_dad", "0"))??;
    for gateway in ["10.88.0.1/16", "fd00:88::1/64"] {
        rtnl.request(&address::add(bridge, network(gateway)?, false))?;
    }
    masquerade(host)
}

/// Gives a host a rule that masquerades what is in a set, which is empty.
///
/// # Errors
/// The kernel refuses.
pub fn masquerade(host: &Node) -> Result<()> {
    Ok(host.netns().run(commit_rule)??)
}

fn network(text: &str) -> Result<IpNetwork> {
    text.parse().map_err(|_| LabError::Wrong(format!("{text:?} is no network")))
}

fn commit_rule() -> netlink::Result<()> {
    let table = Table { family: Family::Inet, name: "floor" };
    let sources = Set { table, name: "sources", key: KeyType::Ipv4, kind: SetKind::Keys };
    let chain = Chain { table, name: "postrouting" };
    let by_source = Expression::InSet { field: Field::Source, set: &sources, negated: false };
    Nft::open()?.commit(&[
        table.add(),
        sources.add(""),
        chain.add_at(Hook::SourceNat),
        chain.append(&[Expression::Is(KeyType::Ipv4), by_source, Expression::Masquerade], ""),
    ])
}
