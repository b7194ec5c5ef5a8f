//! ADD and CHECK.

use std::fs::File;
use std::io;
use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::{CniResult, IpConfig};
use kernel::netlink::Message;
use kernel::{route, rule};
use plugin_interface::check::demand;
use plugin_interface::{Container, Error, Previous, Result};

use crate::conf::Conf;
use crate::plan::Plan;
use crate::undo::undo;

/// Gives each address of the interface a rule and a table, and moves the interface's routes there.
pub(crate) fn add(call: &Call, netns: &Path) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf)?;
    let previous = Previous::of(call)?;
    let ips = ips_of(&previous);
    if ips.is_empty() {
        let ifname = &call.attachment.ifname;
        let reason = format!(
            "No IP addresses supplied on interface: {ifname}; give the plugin before this one an \"ipam\""
        );
        return Err(Error::Config { key: "prevResult", value: "ips".into(), reason });
    }
    let mut container = Container::open(call, netns)?;
    let link = container.interface(&call.attachment.ifname, netns)?;
    let lock = lock(netns)?;
    let mut rules = container.rtnl.rules()?;
    if rules.by_source.iter().any(|rule| ips.iter().any(|ip| ip.address.ip() == rule.source)) {
        // An ADD that was killed, and no DEL after it.
        undo(call, Some(netns))?;
        rules = container.rtnl.rules()?;
    }
    let routes = container.rtnl.routes(0)?;
    let plan = Plan::make(&conf, &ips, link.index, &rules, &routes);
    let done = container.rtnl.request_all(&changes(&plan));
    drop(lock);
    match done {
        Ok(()) => Ok(previous.result),
        Err(error) => Err(Error::from(error).undone(undo(call, Some(netns)))),
    }
}

/// The rules come first: by them the way back is found. While a table is empty, the kernel goes on
/// to the main one, which is emptied last.
fn changes(plan: &Plan) -> Vec<Message> {
    let rules = plan.rules.iter().map(rule::add);
    let routes = plan.routes.iter().map(route::append);
    let moved = plan.moved.iter().map(route::delete);
    rules.chain(routes).chain(moved).collect()
}

/// Looks for the rules of the interface's addresses, and for the ways out in their tables.
pub(crate) fn check(call: &Call, netns: &Path) -> Result<()> {
    let conf = Conf::parse(&call.conf)?;
    let previous = Previous::of(call)?;
    let mut container = Container::open(call, netns)?;
    let link = container.interface(&call.attachment.ifname, netns)?;
    let rules = container.rtnl.rules()?.by_source;
    let routes = container.rtnl.routes(0)?;
    for ip in ips_of(&previous) {
        let address = ip.address.ip();
        let mut own = rules.iter().filter(|rule| rule.source == address);
        let found = own.find(|rule| conf.table.is_none_or(|table| rule.table == table));
        let difference = || Error::Different(format!("there is no rule for what {address} sends"));
        let table = found.ok_or_else(difference)?.table;
        let Some(gateway) = conf.gateway_of(address, ip.gateway).filter(|_| conf.table.is_none())
        else {
            continue;
        };
        let is_way_out = |route: &&route::Route| {
            route.table == table
                && route.link == Some(link.index)
                && route.destination.prefix() == 0
                && route.destination.is_ipv4() == address.is_ipv4()
        };
        demand(routes.iter().any(|route| is_way_out(&route)), || {
            format!("table {table}, for what {address} sends, has no way out by {gateway}")
        })?;
    }
    Ok(())
}

/// The interface's addresses, with their gateways.
fn ips_of(previous: &Previous) -> Vec<IpConfig> {
    let own: Vec<_> = previous.addresses().collect();
    let ips = previous.result.ips.iter();
    ips.filter(|ip| own.contains(&ip.address)).cloned().collect()
}

/// Keeps other calls for the namespace out, the reference's too, while the file is open: two must
/// not take one table for free.
fn lock(netns: &Path) -> Result<File> {
    let failed = |source| Error::Lock { what: netns.display().to_string(), source };
    let file = File::open(netns).map_err(failed)?;
    loop {
        match file.lock() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done.map(|()| file).map_err(failed),
        }
    }
}
