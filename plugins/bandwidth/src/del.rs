//! DEL, and what undoes an ADD that failed.

use std::path::Path;

use cni_conf::plugin::Call;
use kernel::Rtnl;
use kernel::link::Link;
use kernel::netlink::Error as KernelError;
use kernel::traffic::{self, TokenBucket};
use plugin_interface::{Error, Result, host_end as veths};

use crate::{host_end, limiter, reference};

/// Removes what the attachment owns: the redirection before the limiter, since what is redirected to
/// nowhere is dropped.
pub(crate) fn del(call: &Call, netns: Option<&Path>) -> Result<()> {
    let mut host = Rtnl::open()?;
    let veth = host_end::find(&mut host, call, netns)?;
    let cleared = veth.as_ref().map_or(Ok(()), |veth| clear(&mut host, veth.index));
    let limiters = limiter::find(&mut host, &call.attachment);
    let limiters = limiters.and_then(|own| veths::delete(&mut host, &own));
    let of_reference = reference::remove(&mut host, &call.attachment, veth.as_ref());
    Error::all([cleared, limiters, of_reference])
}

/// Takes buckets and redirection from the host's end of the veth, and what lets filters see what
/// arrives unless others have filters there.
fn clear(host: &mut Rtnl, veth: u32) -> Result<()> {
    let requests = [TokenBucket::delete_root(veth), traffic::delete_redirect(veth)];
    for answer in host.batch(&requests)? {
        unless_absent(answer)?;
    }
    match host.redirections(veth)? {
        (0, _) => unless_absent(host.request(&traffic::delete_ingress(veth))),
        _ => Ok(()),
    }
}

/// Takes from a link of the reference's all that lets filters see what arrives.
pub(crate) fn clear_ingress(host: &mut Rtnl, veth: &Link) -> Result<()> {
    unless_absent(host.request(&traffic::delete_ingress(veth.index)))
}

fn unless_absent(answer: std::result::Result<(), KernelError>) -> Result<()> {
    match answer {
        Err(error) if !traffic::is_absent(&error) => Err(error.into()),
        _ => Ok(()),
    }
}
