//! DEL of a bridge with host-local.

use nix::libc;

use crate::attach::{LINK, link};
use crate::masquerade;
use crate::netlink::{Datagram, Netlink};
use crate::reservation::Reservations;
use crate::{Job, Result};

pub(crate) fn detach(job: &Job) -> Result<()> {
    let host = Netlink::route()?;
    let ask = Datagram::new().message(libc::RTM_GETLINK, 0, &[0; LINK]);
    let found = host.ask(&ask.put_text(libc::IFLA_IFNAME, &job.host_end()))?;
    // Is it the owner's?
    let alias = format!("cbr0/{}/eth0\0", job.container_id);
    if found.attribute(LINK, libc::IFLA_IFALIAS) != Some(alias.as_bytes()) {
        return Err("the link is another's".into());
    }
    let port = found.number(4).ok_or("the kernel told no index")?;
    // The other end goes with it. The kernel answers when nobody uses it any more.
    host.ask(&Datagram::new().message(libc::RTM_DELLINK, libc::NLM_F_ACK, &link(port, 0)))?;
    // Only then is the address another's to have.
    let released = Reservations::lock(job)?.release(job)?;
    match released {
        Some(addresses) if job.masquerade => {
            masquerade::remove(&Netlink::netfilter()?, job, addresses.v4)
        }
        _ => Ok(()),
    }
}
