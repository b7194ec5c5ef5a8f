//! CHECK: whether everything is limited as it was asked for.

use std::path::Path;

use cni_conf::plugin::Call;
use kernel::Rtnl;
use kernel::link::Link;
use kernel::traffic::{Qdisc, TokenBucket};
use plugin_interface::check::demand;
use plugin_interface::{Error, Previous, Result};

use crate::conf::Conf;
use crate::{host_end, limiter, reference};

/// Compares the kernel with the configuration.
pub(crate) fn check(call: &Call, netns: &Path) -> Result<()> {
    let conf = Conf::parse(&call.conf)?;
    Previous::of(call)?;
    if conf.is_empty() {
        return Ok(());
    }
    let mut host = Rtnl::open()?;
    let veth = host_end::of_container(&mut host, call, netns)?;
    let qdiscs = host.qdiscs()?;
    if let Some(bucket) = &conf.ingress {
        has_bucket(&qdiscs, &veth, bucket)?;
    }
    if let Some(bucket) = &conf.egress {
        let limiter = find_limiter(&mut host, call)?;
        let (_, targets) = host.redirections(veth.index)?;
        demand(targets.contains(&limiter.index), || {
            format!("what arrives at {:?} is not redirected to {:?}", veth.name, limiter.name)
        })?;
        demand(limiter.is_up(), || format!("{:?} is down", limiter.name))?;
        has_bucket(&qdiscs, &limiter, bucket)?;
    }
    Ok(())
}

/// The attachment's limiter: its own, or the one that the reference plugin made for it.
fn find_limiter(host: &mut Rtnl, call: &Call) -> Result<Link> {
    let alias = call.attachment.alias();
    let own = limiter::find(host, &call.attachment)?.into_iter().find(|one| one.alias == alias);
    let found = match own {
        None => reference::find(host, &call.attachment)?,
        own => own,
    };
    found.ok_or_else(|| Error::Different(format!("the limiter of {alias:?} is gone")))
}

fn has_bucket(qdiscs: &[Qdisc], link: &Link, wanted: &TokenBucket) -> Result<()> {
    let name = &link.name;
    let root = qdiscs.iter().find(|qdisc| qdisc.is_root && qdisc.link == link.index);
    let bucket = root.and_then(|root| root.bucket);
    demand(bucket.is_some(), || format!("what {name:?} sends is not limited"))?;
    demand(bucket == Some(*wanted), || {
        format!("what {name:?} sends is limited by {bucket:?}, not {wanted:?}")
    })
}
