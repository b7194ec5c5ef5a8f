//! What the reference plugin of the same name left: a link of kind `ifb`, named by network and
//! container alone, and joined without a mark. So it may be of another interface, or of another
//! network with another container; whoever uses it is asked.

use std::fmt::Write;

use cni_conf::attachment::Attachment;
use kernel::Rtnl;
use kernel::link::{Kind, Link};
use plugin_interface::{Result, host_end};
use sha2::{Digest, Sha512};

use crate::del;

/// The reference's limiter, if there is one.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn find(host: &mut Rtnl, attachment: &Attachment) -> Result<Option<Link>> {
    let found = host.link_by_name(&name(attachment))?;
    Ok(found.filter(|link| link.kind == Kind::Ifb.name()))
}

/// Removes the reference's limiter unless a link other than the attachment's `veth` is redirected to
/// it.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn remove(host: &mut Rtnl, attachment: &Attachment, veth: Option<&Link>) -> Result<()> {
    let Some(limiter) = find(host, attachment)? else { return Ok(()) };
    let mut is_own = false;
    for link in host.qdiscs()?.iter().filter(|qdisc| qdisc.is_ingress()).map(|qdisc| qdisc.link) {
        if host.redirections(link)?.1.contains(&limiter.index) {
            match veth {
                Some(veth) if veth.index == link => is_own = true,
                _ => return Ok(()),
            }
        }
    }
    if let Some(veth) = veth.filter(|_| is_own) {
        del::clear_ingress(host, veth)?;
    }
    host_end::delete(host, &[limiter])
}

fn name(attachment: &Attachment) -> String {
    let hash = Sha512::new()
        .chain_update(&attachment.network)
        .chain_update(&attachment.container_id)
        .finalize();
    let mut name = "bwp".to_owned();
    for byte in hash.iter().take(6) {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_reference() {
        // printf netpod | sha512sum
        let pod = Attachment::new("net", "pod", "eth0").unwrap();
        assert_eq!(name(&pod), "bwp6230a40fd8ff");
    }
}
