//! The node, its etcd and its daemon: what is done to them, and how they are looked at.

use std::time::{Duration, Instant};

use cbr0_tests::daemon::{Daemon, PATIENCE};
use cbr0_tests::topology::{UPLINK, node_addresses};
use cbr0_tests::{LabError, Result, wait};
use ipnetwork::IpNetwork;
use kernel::netlink::{Message, Protocol, Socket};
use kernel::route::{self, Route, TABLE_MAIN};
use kernel::{Rtnl, address, link};
use nix::libc;
use serde_json::json;

use super::reference::{Lease, Model, Table, To, addresses, ranges, stranger};
use super::step::{Edit, ODD, Write};
use crate::fixture::{Lab, PREFIX, ROUTER, is_away, tells};

/// Time-outs of which an outage can be several.
const HASTY: [&str; 3] = ["--etcd-timeout=500ms", "--etcd-ping=500ms", "--etcd-retry=500ms"];
/// A daemon that starts without an uplink finds no default route to tell its addresses by.
const ADDRESSES: [&str; 2] = ["--node-address=10.100.0.2", "--node-address=fd00:100::2"];
/// Three times each of the time-outs.
pub(crate) const OUTAGE: Duration = Duration::from_millis(1500);
/// One subnet for who has none, which is this node's.
const CONFIG: &str = r#"{"Network": "10.0.0.0/14", "SubnetMin": "10.0.1.0",
    "SubnetMax": "10.0.1.0", "EnableIPv6": true, "IPv6Network": "fd00::/48",
    "IPv6SubnetMin": "fd00:0:0:1::", "IPv6SubnetMax": "fd00:0:0:1::"}"#;
const OURS: u8 = 214;
const FOREIGN: u8 = 99;
const RTNLGRP_ROUTES: [u32; 2] = [7, 11];

pub(crate) struct World {
    pub(crate) lab: Lab,
    daemon: Option<Daemon>,
    rtnl: Rtnl,
    uplink: u32,
    /// Hears of every change of routes.
    events: Socket,
    /// How often the daemon was asked whether it has heard of all that was written.
    marks: u32,
}

impl World {
    /// `None` where there can be no lab.
    pub(crate) fn new() -> Result<Option<Self>> {
        // Etcd ends connections that are tried more often than it wants.
        let often = ["--grpc-keepalive-min-time", "200ms"].map(str::to_owned).to_vec();
        let Some(lab) = Lab::at(1, format!("http://{ROUTER}:2379"), often)? else {
            return Ok(None);
        };
        lab.put("config", CONFIG)?;
        let mut rtnl = lab.node(1).rtnl()?;
        let uplink = rtnl.link_by_name(UPLINK)?.unwrap().index;
        let mut events = lab.node(1).netns().run(|| Socket::open(Protocol::Route))??;
        for group in RTNLGRP_ROUTES {
            events.subscribe(group)?;
        }
        Ok(Some(Self { lab, daemon: None, rtnl, uplink, events, marks: 0 }))
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        // What the last one said is no sign of this one.
        let said = std::fs::remove_file(self.lab.node(1).folder().join("route-syncer.json"));
        assert!(said.is_ok() || self.daemon.is_none());
        self.daemon = Some(self.lab.start_with(1, &[&HASTY[..], &ADDRESSES].concat())?);
        Ok(())
    }

    /// Ends the daemon without a chance to do anything.
    pub(crate) fn kill(&mut self) {
        self.daemon = None;
    }

    /// Waits until the daemon says that it hears nothing of etcd.
    pub(crate) fn wait_until_away(&self) -> Result<()> {
        self.lab.wait(1, "etcd away", is_away).map(drop)
    }

    /// Waits until the daemon has acted on all that was written before.
    pub(crate) fn wait_until_heard(&mut self) -> Result<()> {
        let (last, mark) = (self.marks, self.marks + 1);
        self.marks = mark;
        self.txn(&[
            format!("put {PREFIX}/subnets/mark-{mark} x"),
            format!("del {PREFIX}/subnets/mark-{last}"),
        ])?;
        let name = format!("mark-{mark}:");
        self.lab.wait(1, &name, |status| tells(status, &name)).map(drop)
    }

    pub(crate) fn write(&self, write: Write, model: &Model) -> Result<()> {
        let odd = |place: usize| format!("{PREFIX}/subnets/{}", ODD[place].0);
        match write {
            Write::Claim { node, subnet, moved } => {
                let (key, left) = keys(subnet);
                self.txn(&[format!("put {key} {}", value(node, moved)), format!("del {left}")])
            }
            Write::Vanish { subnet } => self.txn(&[format!("del {}", keys(subnet).0)]),
            Write::Leave { subnet } => {
                let Some(Lease { node, moved, .. }) = model.holder(subnet) else { return Ok(()) };
                let (key, left) = keys(subnet);
                self.txn(&[format!("put {left} {}", value(node, moved)), format!("del {key}")])
            }
            Write::Odd { place } => self.txn(&[format!("put {} {}", odd(place), ODD[place].1)]),
            Write::OddGone { place } => self.txn(&[format!("del {}", odd(place))]),
            Write::Compact => {
                let revision = self.lab.etcd.revision()?.to_string();
                match self.lab.etcd.ctl(&["compact", &revision]) {
                    // Nothing was written since the last time.
                    Err(error) if error.to_string().contains("has been compacted") => Ok(()),
                    done => done.map(drop),
                }
            }
        }
    }

    /// Does these at once.
    fn txn(&self, operations: &[String]) -> Result<()> {
        let text = format!("\n{}\n\n\n", operations.join("\n"));
        let said = self.lab.etcd.ctl_with(&["txn"], &text)?;
        if said.starts_with("SUCCESS") { Ok(()) } else { Err(LabError::Wrong(said)) }
    }

    pub(crate) fn edit(&mut self, edit: Edit) -> Result<()> {
        match edit {
            Edit::Flush => self.delete_ours(|_| true),
            Edit::Delete(to) => self.delete_ours(|route| route.destination == to),
            Edit::Foreign(to) => self.ask(&route::replace(&self.foreign_route(to))),
            Edit::ForeignGone(to) => self.ask(&route::delete(&self.foreign_route(to))),
            Edit::Bend(to) => self.ask(&route::replace(&self.route(to, 2, OURS))),
        }
    }

    fn delete_ours(&mut self, is_meant: impl Fn(&Route) -> bool) -> Result<()> {
        let all = self.rtnl.routes(TABLE_MAIN)?;
        let ours = all.iter().filter(|route| route.protocol == OURS && is_meant(route));
        let requests: Vec<Message> = ours.map(route::delete).collect();
        // The daemon may be at them, too.
        let _each = self.rtnl.batch(&requests)?;
        Ok(())
    }

    fn foreign_route(&self, to: IpNetwork) -> Route {
        self.route(to, 1, FOREIGN)
    }

    fn route(&self, to: IpNetwork, gateway: u8, protocol: u8) -> Route {
        // An IPv6 route without a metric has 1024; only if that is told it can be found by it.
        let priority = if to.is_ipv4() { 0 } else { 1024 };
        Route { protocol, priority, ..Route::new(to).via(stranger(to, gateway)).dev(self.uplink) }
    }

    pub(crate) fn take_link_down(&mut self) -> Result<()> {
        self.ask(&link::set_down(self.uplink))
    }

    /// As who manages a node's links would: with its addresses, of which that of IPv6 was lost.
    pub(crate) fn bring_link_up(&mut self) -> Result<()> {
        self.ask(&link::set_up(self.uplink))?;
        let own = IpNetwork::new(node_addresses(1)[1], 64).unwrap();
        self.ask(&address::add(self.uplink, own, false))
    }

    fn ask(&mut self, message: &Message) -> Result<()> {
        Ok(self.rtnl.request(message)?)
    }

    /// Waits until a route changes.
    pub(crate) fn wait_for_routes(&mut self, until: Instant) -> Result<bool> {
        let heard = wait::readable(&self.events, until)?;
        self.events.events()?;
        Ok(heard)
    }

    /// Our routes and the foreign ones, each destination once.
    pub(crate) fn routes(&mut self) -> Result<(Table, Table)> {
        let (mut ours, mut foreign) = (Table::new(), Table::new());
        for route in self.rtnl.routes(TABLE_MAIN)? {
            let table = match route.protocol {
                OURS => &mut ours,
                FOREIGN => &mut foreign,
                _ => continue,
            };
            let way = match (route.kind, route.gateway) {
                (libc::RTN_UNICAST, Some(gateway)) => To::Via(gateway),
                (libc::RTN_UNREACHABLE, None) => To::Nowhere,
                _ => return Err(LabError::Wrong(format!("an odd route: {route:?}"))),
            };
            if table.insert(route.destination, way).is_some() || route.one_of_several {
                return Err(LabError::Wrong(format!("two routes to {}", route.destination)));
            }
        }
        Ok((ours, foreign))
    }

    /// How long something that must happen may take.
    pub(crate) fn patience() -> Instant {
        Instant::now() + PATIENCE
    }

    pub(crate) fn log(&self) -> String {
        self.lab.log(1)
    }
}

/// The keys of a subnet: its lease, and that its node has left.
fn keys(subnet: u8) -> (String, String) {
    let [v4, v6] = ranges(subnet).map(|range| range.to_string().replace('/', "-"));
    (format!("{PREFIX}/subnets/{v4}&{v6}"), format!("{PREFIX}/left/{v4}&{v6}"))
}

/// What a node writes of itself; without a blank, for etcdctl.
fn value(node: u8, moved: bool) -> String {
    let [v4, v6] = addresses(node, moved);
    let (name, machine) = (format!("node{node}"), format!("machine-of-node{node}"));
    json!({"PublicIP": v4, "PublicIPv6": v6, "BackendType": "host-gw", "NodeName": name,
        "MachineID": machine})
    .to_string()
}
