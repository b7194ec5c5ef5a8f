//! ADD, from top to bottom, and what undoes it.

use std::net::IpAddr;

use cni_conf::attachment::Attachment;
use cni_conf::plugin::Call;
use cni_conf::result::CniResult;
use kernel::conntrack::Flows;
use kernel::{Rtnl, sysctl};
use nix::libc;
use plugin_interface::{Error, Previous, Result};

use crate::conf::Conf;
use crate::mapping::Mapping;
use crate::ports::{Ports, Wanted};
use crate::record::Pod;
use crate::table::Disguise;

/// Makes the ports of the host lead to the container. Either all do afterwards, or none does.
pub(crate) fn add(call: &Call) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf)?;
    let previous = Previous::of(call)?;
    let Some(wanted) = wanted(call, &conf, &previous)? else { return Ok(previous.result) };

    open_loopback(&wanted)?;
    let mut ports = Ports::open()?;
    let given = give(&mut ports, &wanted);
    // To claim a port takes a thing that is made and deleted again.
    ports.leave();
    given.map(|()| previous.result)
}

fn give(ports: &mut Ports, wanted: &Wanted<'_>) -> Result<()> {
    ports.add(wanted)?;
    // Flows of UDP have no end: one that another container had, or nobody, would stay as it is.
    let flows = flows(&wanted.mappings, &[libc::IPPROTO_UDP], false);
    let undo = || remove(wanted.attachment).map(drop);
    ports.forget(&flows).map_err(|error| error.undone(undo()))
}

/// Takes all ports of an attachment back; whether it had any.
pub(crate) fn remove(attachment: &Attachment) -> Result<bool> {
    where_there_is_any(|ports| ports.remove(&attachment.owner_key()))
}

/// Does something that takes ports back, and has the flows forgotten that still lead to whoever had
/// them; whether there were any. Without nf_tables in the kernel there is nothing to take back.
pub(crate) fn where_there_is_any(
    work: impl FnOnce(&mut Ports) -> Result<Vec<Mapping>>,
) -> Result<bool> {
    let mut ports = match Ports::open() {
        Err(Error::Kernel(error)) if error.is_unsupported() => return Ok(false),
        opened => opened?,
    };
    let protocols = [libc::IPPROTO_UDP, libc::IPPROTO_TCP];
    let done = work(&mut ports).and_then(|freed| {
        ports.forget(&flows(&freed, &protocols, true))?;
        Ok(!freed.is_empty())
    });
    ports.leave();
    done
}

/// What the attachment shall have; `None` if no port is mapped to any of its addresses.
pub(crate) fn wanted<'a>(
    call: &'a Call,
    conf: &'a Conf,
    previous: &Previous,
) -> Result<Option<Wanted<'a>>> {
    let addresses = first_of_each_family(previous);
    let mappings = conf.mappings(&addresses)?;
    if mappings.is_empty() {
        return Ok(None);
    }
    let mut host = Rtnl::open()?;
    let is_mapped = |address: &&IpAddr| mappings.iter().any(|it| it.target.ip() == **address);
    let pods = addresses.iter().filter(is_mapped).map(|address| pod(&mut host, conf, *address));
    Ok(Some(Wanted {
        attachment: &call.attachment,
        pods: pods.collect::<Result<_>>()?,
        mappings,
        conditions: [&conf.conditions4, &conf.conditions6],
    }))
}

fn first_of_each_family(previous: &Previous) -> Vec<IpAddr> {
    let addresses: Vec<_> = previous.addresses().map(|address| address.ip()).collect();
    let first = |ipv6| addresses.iter().find(move |address| address.is_ipv6() == ipv6).copied();
    [first(false), first(true)].into_iter().flatten().collect()
}

/// The container's address, and by which link the host reaches it.
fn pod(host: &mut Rtnl, conf: &Conf, address: IpAddr) -> Result<Pod> {
    let unreachable = || Error::Config {
        key: "prevResult",
        value: address.to_string(),
        reason: "the host has no route to this address, so no port of it can lead there; chain \
                 portmap behind a plugin that makes the container reachable, such as bridge"
            .into(),
    };
    let link = host.link_towards(address)?.ok_or_else(unreachable)?;
    let mut disguises = Vec::new();
    if conf.source_nat {
        disguises.extend([Disguise::Hairpin, Disguise::Bridged]);
        disguises.extend(address.is_ipv4().then_some(Disguise::Loopback));
    }
    disguises.extend(conf.masquerade_all.then_some(Disguise::All));
    Ok(Pod { link: link.name, address, disguises })
}

/// Lets what the host sends to its own loopback addresses leave by the containers' links. Who is
/// behind the links is kept out by a rule that comes with the ports.
fn open_loopback(wanted: &Wanted<'_>) -> Result<()> {
    for pod in wanted.pods.iter().filter(|pod| pod.disguises.contains(&Disguise::Loopback)) {
        sysctl::set(&format!("net/ipv4/conf/{}/route_localnet", pod.link), "1")?;
    }
    Ok(())
}

/// The flows to these ports; those alone that are answered by the container, if that is asked for.
fn flows(mappings: &[Mapping], protocols: &[i32], of_container: bool) -> Vec<Flows> {
    let is_meant = |it: &&Mapping| protocols.contains(&i32::from(it.place.protocol));
    let flows = mappings.iter().filter(is_meant).map(|Mapping { place, target }| Flows {
        ipv6: place.ipv6,
        protocol: place.protocol,
        port: place.port,
        destination: place.address,
        answered_by: of_container.then_some(*target),
    });
    flows.collect()
}
