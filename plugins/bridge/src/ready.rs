//! Reachable when ADD returns: waiting for the bridge, which lets frames pass in its own time.

use kernel::Rtnl;
use kernel::events::{Events, Topic};
use kernel::link::Link;
use kernel::netlink::Message;
use plugin_interface::ready::wait;
use plugin_interface::{Error, Result};

use crate::bridge::Shared;

/// The host's links as they are when frames pass.
pub(crate) struct Links {
    pub(crate) bridge: Link,
    pub(crate) host_end: Link,
    /// The one that has the gateway addresses, if it is not the bridge.
    pub(crate) gateway: Option<Link>,
}

impl Links {
    pub(crate) fn with_gateway(self, shared: &Shared) -> Links {
        let own = shared.gateway.index != shared.bridge.index;
        Links { gateway: own.then(|| shared.gateway.clone()), ..self }
    }
}

/// The links as they are now, when nothing is going to pass; the port's `marks` are written before.
pub(crate) fn look(
    host: &mut Rtnl,
    shared: &Shared,
    port: &Link,
    marks: &[Message],
) -> Result<Links> {
    let found = host.change_and_look(marks, &[port.index, shared.bridge.index])?;
    let [Some(host_end), Some(bridge)] = &found[..] else { return Err(vanished(port)) };
    let links = Links { bridge: bridge.clone(), host_end: host_end.clone(), gateway: None };
    Ok(links.with_gateway(shared))
}

/// Waits until frames pass from the container to the bridge, and from the bridge to the container.
/// The port's `marks` are written together with the first question.
///
/// Both links settle their state in a work queue; until then the port drops frames, and so does
/// the bridge, if this is its first port. Asking for a link settles it, the port's before the
/// bridge's, which follows from it. Under the spanning tree protocol the bridge lets a new port
/// listen for half a minute, and has no carrier until then: there the port's own state must do.
pub(crate) fn wait_for_port(
    host: &mut Rtnl,
    bridge: &Link,
    port: &Link,
    marks: &[Message],
) -> Result<Links> {
    let mut marks = marks;
    let look = || {
        let changes = std::mem::take(&mut marks);
        let found = host.change_and_look(changes, &[port.index, bridge.index])?;
        let [Some(port), Some(bridge)] = &found[..] else { return Ok(Some(None)) };
        let forwarding = port.is_forwarding() && bridge.is_running();
        let open = if bridge.spanning_tree { port.is_running() } else { forwarding };
        Ok(open
            .then(|| Some(Links { bridge: bridge.clone(), host_end: port.clone(), gateway: None })))
    };
    let listen = || Events::open(Topic::Links);
    let found = wait(look, listen, || format!("bridge port {:?}", port.name))?;
    found.ok_or_else(|| vanished(port))
}

fn vanished(port: &Link) -> Error {
    Error::Vanished { thing: format!("veth {:?} or its bridge", port.name) }
}
