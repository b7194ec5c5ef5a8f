//! By which addresses the rules of an attachment are known.

use std::net::IpAddr;
use std::path::Path;

use cni_conf::plugin::Call;
use kernel::address::Address;
use plugin_interface::{Container, Previous, Result, reference};

/// The attachment's addresses: those of the result, if the runtime hands it down. Else those of its
/// interface, which is still there, since DEL goes through the plugins from the last to the first; and
/// when that is gone, those that the reference's bridge masquerades in the container's name.
pub(super) fn find(call: &Call, netns: Option<&Path>) -> Result<Vec<IpAddr>> {
    // A result that cannot be read is as good as none.
    let told: Vec<_> = Previous::of(call).iter().flat_map(of_result).collect();
    if !told.is_empty() {
        return Ok(told);
    }
    let (own, others) = of_container(call, netns);
    if !own.is_empty() {
        return Ok(own);
    }
    let masqueraded = reference::masqueraded(&call.attachment)?.into_iter();
    Ok(masqueraded.filter(|address| !others.contains(address)).collect())
}

fn of_result(previous: &Previous) -> Vec<IpAddr> {
    previous.addresses().map(|address| address.ip()).collect()
}

/// The addresses of the attachment's interface, and those of the container's others.
fn of_container(call: &Call, netns: Option<&Path>) -> (Vec<IpAddr>, Vec<IpAddr>) {
    // A container that cannot be looked into has none that could be known.
    let Ok(Some(mut container)) = Container::find(call, netns) else { return Default::default() };
    let link = container.rtnl.link_by_name(&call.attachment.ifname).ok().flatten();
    let link = link.map(|link| link.index);
    let all = container.rtnl.addresses(0).unwrap_or_default();
    let (own, others): (Vec<_>, Vec<_>) = all.iter().partition(|it| Some(it.link) == link);
    let bare = |all: Vec<&Address>| all.iter().map(|it| it.address.ip()).collect();
    (bare(own), bare(others))
}
