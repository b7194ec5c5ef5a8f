//! The way back: what DEL does, and an ADD that fails.
//!
//! The rules are found by the addresses of the interface. Rules of ours for addresses that nobody in
//! the namespace has any more are of an interface that is gone, and go as well.

use std::path::Path;

use cni_conf::plugin::Call;
use kernel::netlink::Message;
use kernel::route::{Route, TABLE_MAIN};
use kernel::rule::Rule;
use kernel::{Rtnl, route, rule};
use nix::errno::Errno;
use plugin_interface::{Container, Result};

use crate::plan::{GIVEN_TABLE, OWN_TABLE};

/// The protocol of the reference's rules, which says nothing.
const OF_REFERENCE: u8 = 0;

/// Removes the rules of the interface's addresses, and gives the main table the routes that were
/// taken from it.
pub(crate) fn undo(call: &Call, netns: Option<&Path>) -> Result<()> {
    let Some(mut container) = Container::find(call, netns)? else { return Ok(()) };
    let rtnl = &mut container.rtnl;
    let link = rtnl.link_by_name(&call.attachment.ifname)?.map(|link| link.index);
    let addresses = rtnl.addresses(0)?;
    let is_own = |rule: &Rule| {
        let mut there = addresses.iter().filter(|it| it.address.ip() == rule.source).peekable();
        match rule.protocol {
            OWN_TABLE | GIVEN_TABLE if there.peek().is_none() => true,
            OWN_TABLE | GIVEN_TABLE | OF_REFERENCE => there.any(|it| Some(it.link) == link),
            _ => false,
        }
    };
    let rules: Vec<_> = rtnl.rules()?.by_source.into_iter().filter(is_own).collect();
    let filled =
        |table: u32| rules.iter().any(|rule| rule.table == table && rule.protocol == OWN_TABLE);
    let mut routes = rtnl.routes(0)?;
    routes.retain(|route| filled(route.table));
    send(rtnl, &back(&routes), Errno::EEXIST)?;
    let removals: Vec<_> =
        routes.iter().rev().map(route::delete).chain(rules.iter().map(rule::delete)).collect();
    send(rtnl, &removals, Errno::ENOENT)
}

/// What puts routes that an ADD has moved back into the main table.
fn back(routes: &[Route]) -> Vec<Message> {
    let mut moved: Vec<_> = routes.iter().filter(|route| route.protocol != OWN_TABLE).collect();
    moved.sort_by_key(|route| route.gateway.is_some());
    moved.iter().map(|route| route::append(&Route { table: TABLE_MAIN, ..**route })).collect()
}

/// Sends them all; what is done already is no error.
fn send(rtnl: &mut Rtnl, changes: &[Message], done: Errno) -> Result<()> {
    let answers = rtnl.batch(changes)?.into_iter();
    let failed = answers.filter_map(std::result::Result::err);
    match failed.into_iter().find(|error| !error.is(done) && !error.is_absent()) {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
