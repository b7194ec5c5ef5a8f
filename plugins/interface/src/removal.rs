//! DEL, and what undoes an ADD that failed: in which order an attachment's things go.

use std::path::Path;
use std::time::Duration;

use cni_conf::plugin::Call;
use kernel::Rtnl;
use kernel::link::Link;

use crate::error::{Error, Result};
use crate::{addresses, host_end, reference};

/// How long a link may take to go. The lock that the kernel needs for it may be held for seconds
/// while many namespaces die; runtimes wait for minutes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Removes a link of the namespace that the socket is of; it is out of use when this returns.
///
/// # Errors
/// The kernel refuses, or does not tell in time that it is gone.
pub fn of_link(rtnl: Rtnl, link: &Link) -> Result<()> {
    Ok(rtnl.remove(link, PATIENCE)?)
}

/// Removes the veths of an attachment, those that the reference plugin made included, and then what
/// that one left in the packet filter. What became of the one, and of the other.
pub fn of_veths(
    call: &Call,
    netns: Option<&Path>,
    leftovers: &[reference::Kind],
) -> (Result<()>, Result<()>) {
    let own = host_end::remove(&call.attachment);
    match own.and_then(|()| host_end::remove_unclaimed(call, netns)) {
        Ok(of_reference) => (Ok(()), reference::remove(call, netns, of_reference, leftovers)),
        // The container may still use what is left.
        Err(error) => (Err(error), Ok(())),
    }
}

/// Goes on after `links`, the removal of the attachment's links, was tried: with the `others`, and
/// last with the addresses. Each step is tried, whatever became of the rest; but the addresses are
/// released only if the links are gone: nobody may get them while the container still uses them.
///
/// # Errors
/// Those of all steps, in one.
pub fn finish(
    call: &Call,
    netns: Option<&Path>,
    links: Result<()>,
    others: impl IntoIterator<Item = Result<()>>,
) -> Result<()> {
    let addresses = if links.is_ok() { addresses::release(call, netns) } else { Ok(()) };
    Error::all([links].into_iter().chain(others).chain([addresses]))
}
