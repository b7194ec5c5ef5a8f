//! Waiting until the kernel has removed the namespaces of a case: it does that later, and would do it
//! while the next one is timed.

use std::time::Duration;

use cbr0_tests::node::Node;
use cbr0_tests::{LabError, Result};
use kernel::MacAddress;
use kernel::events::{Events, Topic};
use kernel::link::{Veth, VethPeer};

/// A thousand links take seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until all namespaces that are held by nobody are gone with their links. The kernel removes
/// them in the order in which they were given up: it is done when one more is.
///
/// # Errors
/// The kernel refuses a namespace or a link, or is not done in time.
pub(crate) fn wait() -> Result<()> {
    let (observer, last) = (Node::create("observer")?, Node::create("last")?);
    let peer = VethPeer { namespace: last.netns(), name: "end", mac: None };
    let mac = MacAddress([0x02, 0xcb, 0, 0, 0, 1]);
    let veth = Veth { name: "end", mac, master: None, mtu: None, peer };
    let mut rtnl = observer.rtnl()?;
    rtnl.request(&veth.create())?;
    let mut events = Events::open_in(observer.netns(), Topic::Links)?;
    drop(last);
    let gone = events.wait(PATIENCE, || Ok(rtnl.link_by_name("end")?.is_none().then_some(())))?;
    gone.ok_or_else(|| LabError::Timeout {
        what: "the removal of namespaces".to_owned(),
        deadline: PATIENCE,
    })
}
