//! The node: a namespace with an uplink, what others do to it, and the daemon on a thread in it.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use ipnetwork::IpNetwork;
use kernel::link::{Bridge, set_up};
use kernel::netlink::{Message, Protocol, Socket};
use kernel::route::{self, Route, TABLE_MAIN};
use kernel::{MacAddress, NetNs, Rtnl, address, link};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use route_syncer::daemon;
use route_syncer::host::options::HostOptions;
use route_syncer::off_link::OffLink;
use route_syncer::serve::options::ServeOptions;
use route_syncer::settings::Settings;
use route_syncer::unreachable::Unreachable;
use tokio::sync::oneshot;

use crate::reference::{Family, Table, To, V4, V6, family};
use crate::source::{Teller, source};
use crate::step::sane_addresses;

const PROTOCOL: u8 = 214;
const STATIC: u8 = 4;
const RTNLGRP_ROUTES: [u32; 2] = [7, 11];

pub(crate) struct World {
    namespace: Arc<NetNs>,
    pub(crate) rtnl: Rtnl,
    uplink: u32,
    links_made: u8,
    /// Hears of every change of routes.
    events: Socket,
    folder: tempfile::TempDir,
    daemon: Option<Daemon>,
}

struct Daemon {
    teller: Teller,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl World {
    pub(crate) fn new() -> Self {
        let namespace = Arc::new(NetNs::create().unwrap());
        let rtnl = Rtnl::open_in(&namespace).unwrap();
        let events = namespace.run(|| Socket::open(Protocol::Route).unwrap()).unwrap();
        // In memory: the daemon writes its files through to the disk.
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let mut world =
            Self { namespace, rtnl, uplink: 0, links_made: 0, events, folder, daemon: None };
        for group in RTNLGRP_ROUTES {
            world.events.subscribe(group).unwrap();
        }
        world.make_link();
        world
    }

    fn make_link(&mut self) {
        self.links_made += 1;
        let name = format!("uplink{}", self.links_made);
        let mac = MacAddress([2, 0, 0, 0, 0, self.links_made]);
        self.rtnl.request(&Bridge { name: &name, mac, mtu: None }.create()).unwrap();
        self.uplink = self.rtnl.link_by_name(&name).unwrap().unwrap().index;
        for family in [V4, V6] {
            self.add_address(family);
        }
    }

    pub(crate) fn renew_link(&mut self) {
        self.rtnl.request(&link::delete(self.uplink)).unwrap();
        self.make_link();
    }

    pub(crate) fn set_link_up(&mut self, up: bool) {
        if up {
            return self.rtnl.request(&set_up(self.uplink)).unwrap();
        }
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&self.uplink.to_ne_bytes());
        header[12..16].copy_from_slice(&libc::IFF_UP.to_ne_bytes());
        self.rtnl.request(&Message::new("link down", libc::RTM_SETLINK, 0, &header)).unwrap();
    }

    pub(crate) fn add_address(&mut self, family: Family) {
        self.rtnl.request(&address::add(self.uplink, own_address(family), false)).unwrap();
    }

    pub(crate) fn delete_address(&mut self, family: Family) {
        self.rtnl.request(&address::delete(self.uplink, own_address(family))).unwrap();
    }

    fn all(&mut self) -> Vec<Route> {
        self.rtnl.routes(TABLE_MAIN).unwrap()
    }

    /// Our routes.
    pub(crate) fn ours(&mut self) -> Result<Table, String> {
        let mut table = Table::new();
        for route in self.all().into_iter().filter(|route| route.protocol == PROTOCOL) {
            let way = match (route.kind, route.gateway) {
                (libc::RTN_UNICAST, Some(gateway)) if route.link == Some(self.uplink) => {
                    To::Via(gateway)
                }
                (libc::RTN_UNREACHABLE, None) => To::Nowhere,
                _ => return Err(format!("an odd route: {route:?}")),
            };
            if table.insert(route.destination, way).is_some() || route.one_of_several {
                return Err(format!("two routes to {}", route.destination));
            }
        }
        Ok(table)
    }

    /// The routes of others, but for those that the kernel makes of addresses.
    pub(crate) fn foreign(&mut self) -> Vec<(IpNetwork, IpAddr)> {
        let all = self.all();
        let foreign = all.iter().filter(|route| route.protocol == STATIC);
        let mut foreign: Vec<_> =
            foreign.map(|route| (route.destination, route.gateway.unwrap())).collect();
        foreign.sort();
        foreign
    }

    pub(crate) fn delete_ours(&mut self, is_meant: impl Fn(&Route) -> bool) {
        let all = self.all();
        let ours = all.iter().filter(|route| route.protocol == PROTOCOL && is_meant(route));
        let requests: Vec<Message> = ours.map(route::delete).collect();
        // The daemon may be at them, too.
        self.rtnl.batch(&requests).unwrap();
    }

    pub(crate) fn delete_foreign(&mut self, to: IpNetwork, gateway: IpAddr) {
        self.rtnl.request(&route::delete(&self.route(to, gateway, STATIC))).unwrap();
    }

    pub(crate) fn put_foreign(&mut self, to: IpNetwork, gateway: IpAddr) {
        self.rtnl.request(&route::replace(&self.route(to, gateway, STATIC))).unwrap();
    }

    pub(crate) fn put_forged(&mut self, to: IpNetwork, gateway: IpAddr) {
        self.rtnl.request(&route::replace(&self.route(to, gateway, PROTOCOL))).unwrap();
    }

    fn route(&self, to: IpNetwork, gateway: IpAddr, protocol: u8) -> Route {
        // An IPv6 route without a metric has 1024; only if that is told it can be found by it.
        let priority = if to.is_ipv4() { 0 } else { 1024 };
        Route { protocol, priority, ..Route::new(to).via(gateway).dev(self.uplink) }
    }

    /// Waits until a route changes. Returns whether one has, in time.
    pub(crate) fn wait(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap();
        let ready = poll(&mut [PollFd::new(self.events.as_fd(), PollFlags::POLLIN)], timeout);
        let _ = self.events.events().unwrap();
        !left.is_zero() && ready.is_ok()
    }

    pub(crate) fn teller(&self) -> &Teller {
        &self.daemon.as_ref().expect("a daemon").teller
    }

    pub(crate) fn start(&mut self) {
        let (source, teller) = source();
        let (stop, stopped) = oneshot::channel();
        let settings = self.settings();
        let namespace = Arc::clone(&self.namespace);
        let run = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ended = daemon::run(source, settings) => ended.unwrap(),
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::spawn(move || namespace.run(run).unwrap());
        self.daemon = Some(Daemon { teller, stop, thread });
    }

    /// Ends the daemon where it waits, without a chance to do anything.
    pub(crate) fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            let _ = daemon.stop.send(());
            daemon.thread.join().unwrap();
        }
    }

    fn settings(&self) -> Settings {
        let range = |text: &str| text.parse().unwrap();
        Settings {
            node: "node1".into(),
            cluster_cidrs: vec![range("10.0.0.0/14"), range("fd01::/16")],
            service_cidrs: vec![range("10.96.0.0/16")],
            max_routes: 10_000,
            protocol: PROTOCOL,
            unreachable: Unreachable { own: true, cluster: true },
            off_link: OffLink::Skip,
            memory: None,
            run_dir: self.folder.path().join("run"),
            mtu: None,
            conflist: None,
            subnet_env: None,
            host: HostOptions::default(),
            serve: ServeOptions::default(),
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
        // The last daemon's monitor ends with the next event, and the namespace with the monitor.
        let _ = self.rtnl.request(&link::delete(self.uplink));
    }
}

fn own_address(family_of: Family) -> IpNetwork {
    let address = sane_addresses(1).into_iter().find(|one| family(*one) == family_of).unwrap();
    IpNetwork::new(address, if family_of == V4 { 24 } else { 64 }).unwrap()
}
