//! ADD, from top to bottom.
//!
//! Until the interface and its other end are found nothing is changed. From there on a failure is
//! undone by what DEL does, which also removes what an ADD left that was killed.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::CniResult;
use kernel::Rtnl;
use kernel::link::Link;
use kernel::traffic;
use nix::errno::Errno;
use plugin_interface::{Previous, Result, report};

use crate::conf::Conf;
use crate::{del, host_end, limiter};

/// Limits the container's interface.
pub(crate) fn add(call: &Call, netns: &Path) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf)?;
    let mut result = Previous::of(call)?.result;
    if conf.is_empty() {
        return Ok(result);
    }
    let mut host = Rtnl::open()?;
    let veth = host_end::of_container(&mut host, call, netns)?;
    let limited = limit(&mut host, call, &conf, &veth);
    let limiter = limited.map_err(|error| error.undone(del::del(call, Some(netns))))?;
    result.interfaces.extend(limiter.as_ref().map(report::on_host));
    Ok(result)
}

/// Makes everything in the kernel; the limiter, if there is one.
fn limit(host: &mut Rtnl, call: &Call, conf: &Conf, veth: &Link) -> Result<Option<Link>> {
    let limiter = match &conf.egress {
        Some(bucket) => {
            let limiter = limiter::make(host, &call.attachment, bucket, veth.mtu)?;
            redirect(host, veth.index, limiter.index)?;
            Some(limiter)
        }
        None => None,
    };
    if let Some(bucket) = &conf.ingress {
        host.request(&bucket.replace_root(veth.index))?;
    }
    Ok(limiter)
}

/// Sends what arrives at the veth to the limiter, in place of an ADD's that was killed.
fn redirect(host: &mut Rtnl, veth: u32, limiter: u32) -> Result<()> {
    match host.request(&traffic::add_ingress(veth)) {
        // Somebody's `clsact` is there, which takes filters just as well.
        Err(error) if error.is(Errno::EINVAL) || error.is(Errno::EEXIST) => {}
        added => added?,
    }
    match host.request(&traffic::delete_redirect(veth)) {
        Err(error) if traffic::is_absent(&error) => {}
        deleted => deleted?,
    }
    Ok(host.request(&traffic::redirect(veth, limiter))?)
}
