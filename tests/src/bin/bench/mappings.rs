//! Ports of the host that lead to others' containers.
//!
//! cbr0's are made by its own plugin, an ADD for each container. The reference's would take minutes in
//! that way: they are written as it would have written them, and loaded at once. In both each
//! container has ten ports. Nobody is behind the addresses.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use cbr0_tests::node::Node;
use cbr0_tests::pod::Pod;
use cbr0_tests::{LabError, Result};
use kernel::nft::{Chain, Family, Nft, Table};
use serde_json::{Value, json};

use crate::rival::{Backend, Rival};
use crate::{filter, list, timing};

/// How many a container has.
const EACH: u16 = 10;
const FIRST_PORT: u16 = 10_001;
/// Far from the addresses that are given to Pods.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 88, 100, 1);

/// Somebody who has ports.
struct Holder {
    id: String,
    address: Ipv4Addr,
    ports: Vec<u16>,
}

/// Maps so many ports of a host on which the plugin has worked already. `previous` is the bridge's
/// result for a Pod of it.
///
/// # Errors
/// A plugin fails, or what is loaded is refused.
pub(crate) fn fill(
    rival: &Rival,
    host: &Node,
    pod: &Pod,
    previous: &str,
    count: u16,
) -> Result<()> {
    let holders: Vec<_> = (0..count / EACH).map(holder).collect();
    if has_maps(host)? {
        return holders.iter().try_for_each(|holder| add(rival, host, pod, previous, holder));
    }
    match rival.backend {
        _ if holders.is_empty() => Ok(()),
        Backend::Iptables => {
            filter::run("iptables-restore", &["--noflush"], &iptables(&holders), host)
        }
        Backend::Nft => filter::run("nft", &["-f", "-"], &nft(&holders), host),
    }
}

fn holder(number: u16) -> Holder {
    let first = FIRST_PORT + number * EACH;
    Holder {
        id: format!("held-{number}"),
        address: Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + u32::from(number)),
        ports: (first..first + EACH).collect(),
    }
}

/// Whether the mappings of this host are in maps, as cbr0 has them.
fn has_maps(host: &Node) -> Result<bool> {
    let table = Table { family: Family::Inet, name: "cbr0_portmap" };
    let chain = Chain { table, name: "hostports" };
    Ok(Nft::open_in(host.netns())?.exist(&[chain])? == [true])
}

/// One ADD of the plugin.
fn add(rival: &Rival, host: &Node, pod: &Pod, previous: &str, holder: &Holder) -> Result<()> {
    let wrong = |error| LabError::Wrong(format!("the bridge's result is no JSON: {error}"));
    let mut result: Value = serde_json::from_str(previous).map_err(wrong)?;
    result["ips"][0]["address"] = json!(format!("{}/16", holder.address));
    let first = holder.ports.first().copied().unwrap_or_default();
    let job = list::job(rival, list::portmap(rival, first, EACH));
    let mut attachment = pod.attachment();
    attachment.container_id.clone_from(&holder.id);
    let call = job.call_with("ADD", &attachment, Some(&result.to_string()));
    timing::time(&call, host).map(drop)
}

/// The reference's chains and rules, for `iptables-restore`.
fn iptables(holders: &[Holder]) -> String {
    let mut text = "*nat\n".to_owned();
    for Holder { id, .. } in holders {
        let _ = writeln!(text, ":CNI-DN-{id} - [0:0]");
    }
    for Holder { id, address, ports } in holders {
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let comment = format!(r#"--comment "dnat name: \"bench\" id: \"{id}\"""#);
        let matches = format!("-p tcp -m comment {comment} -m multiport --dports {list}");
        let _ = writeln!(text, "-A CNI-HOSTPORT-DNAT {matches} -j CNI-DN-{id}");
        for port in ports {
            let rule = |source: &str, to: &str| {
                format!("-A CNI-DN-{id} {source}-p tcp -m tcp --dport {port} -j {to}\n")
            };
            text += &rule("-s 10.88.0.0/16 ", "CNI-HOSTPORT-SETMARK");
            text += &rule("-s 127.0.0.1/32 ", "CNI-HOSTPORT-SETMARK");
            text += &rule("", &format!("DNAT --to-destination {address}:80"));
        }
    }
    text + "COMMIT\n"
}

/// The reference's rules, for `nft`.
fn nft(holders: &[Holder]) -> String {
    let mut text = String::new();
    for Holder { id, address, ports } in holders {
        for port in ports {
            let rule = format!("tcp dport {port} dnat to {address}:80 comment \"{id}\"");
            let _ = writeln!(text, "add rule ip cni_hostport hostports {rule}");
        }
        for source in [*address, Ipv4Addr::LOCALHOST] {
            let rule = format!("ip saddr {source} ip daddr {address} masquerade comment \"{id}\"");
            let _ = writeln!(text, "add rule ip cni_hostport masquerading {rule}");
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn holders_have_ports_and_addresses_of_their_own() {
        let (first, last) = (holder(0), holder(999));
        assert_eq!((first.ports[0], first.ports[9]), (10_001, 10_010));
        assert_eq!((last.ports[0], last.ports[9]), (19_991, 20_000));
        assert_eq!(last.address.to_string(), "10.88.103.232");
    }

    #[test]
    fn each_port_has_the_rules_that_the_reference_gives_it() {
        let holders = [holder(0), holder(1)];
        let text = iptables(&holders);
        assert_eq!(text.matches("-j DNAT --to-destination 10.88.100.2:80\n").count(), 10);
        assert_eq!(text.matches("-j CNI-HOSTPORT-SETMARK\n").count(), 40);
        assert_eq!(nft(&holders).lines().count(), 24);
    }
}
