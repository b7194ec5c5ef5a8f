//! Hearing of changes in the kernel, so that a lost route is back in milliseconds.
//!
//! IPv4 routes that go with a link or an address make no event of their own; so links and
//! addresses are listened to as well. An event is only a reason to look: what counts is what the
//! kernel says when it is read next.
//!
//! When the queue of the socket overflows, the kernel says so once and then drops every event,
//! silently, until the queue is empty. So the state must be read anew *after* the queue was
//! emptied: a thread empties it and only then tells what it heard. (That is why this is no stream
//! of the `rtnetlink` crate, whose connection does not tell when the queue was empty: a route that
//! went in such a moment stayed away.) The thread also listens while the daemon is busy.

use std::io;
use std::os::fd::AsFd;

use kernel::netlink::{Protocol, Reply, Socket};
use kernel::route::TABLE_MAIN;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::Error;
use crate::observed::{self, Route};

mod filter;

/// The receive buffer in bytes. The default holds about 250 events, this one some 10,000.
const BUFFER: usize = 8 << 20;
/// `NFNLGRP_NFTABLES`.
const TABLES: u32 = 7;
/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR`, `_IPV6_ROUTE`,
/// `_IPV4_NETCONF`, `_IPV6_NETCONF`.
const GROUPS: [u32; 7] = [1, 5, 7, 9, 11, 24, 25];
/// `RTNLGRP_NEIGH`. It tells of each Pod that talks, too, and so is listened to only where it must be.
const NEIGHBOURS: u32 = 3;
/// Where `struct ndmsg` has the index of the link.
const NEIGHBOUR_LINK: usize = 4;

/// Of `linux/netconf.h`: settings of links.
const RTM_NEWNETCONF: u16 = 80;
const RTM_DELNETCONF: u16 = 81;
const NETCONF_HEADER: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;
const ALL_LINKS: i32 = -1;

/// Something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link or an address came, went or changed.
    Link,
    /// A route came, went or changed.
    Route {
        /// The route, which is in the main table.
        route: Route,
        /// Whether it went.
        gone: bool,
    },
    /// A neighbour or a forwarding entry came, went or changed on the link of this index.
    Neighbour(u32),
    /// What we have in the packet filter, or what passed packets meet there, may have changed, or
    /// a setting of all links.
    Host,
    /// Events were lost: anything may have changed.
    Overrun,
}

/// The events of the network namespace in which it was opened.
pub struct Monitor {
    heard: UnboundedReceiver<Heard>,
}

/// All events up to a moment when the queue was empty.
type Heard = Result<Vec<Event>, Error>;

impl Monitor {
    /// Starts to listen. What changes from now on is not missed.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open() -> Result<Self, Error> {
        Self::open_for(&GROUPS)
    }

    /// As [`Monitor::open`], of neighbours and forwarding entries too: there is a tunnel.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open_with_neighbours() -> Result<Self, Error> {
        Self::open_for(&[&GROUPS[..], &[NEIGHBOURS]].concat())
    }

    fn open_for(groups: &[u32]) -> Result<Self, Error> {
        let mut socket = Socket::open(Protocol::Route)?;
        // An overrun costs a reading of the kernel's state and no more; so without the privilege
        // for a larger buffer the default will do.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
        for &group in groups {
            socket.subscribe(group)?;
        }
        let sockets: Vec<Socket> = std::iter::once(socket).chain(tables()).collect();
        let (sender, heard) = unbounded_channel();
        let thread = std::thread::Builder::new().name("monitor".into());
        thread.spawn(move || listen(sockets, &sender)).map_err(Error::Monitor)?;
        Ok(Self { heard })
    }

    /// Waits for events. What the kernel is asked after this returns is newer than any event that
    /// was lost. Cancel-safe.
    ///
    /// # Errors
    /// The socket has failed.
    pub async fn next(&mut self) -> Heard {
        let ended = || Err(Error::Monitor(io::Error::other("the thread that listens ended")));
        self.heard.recv().await.unwrap_or_else(ended)
    }
}

/// Tells what it hears, until nobody wants to know or the socket fails.
fn listen(mut sockets: Vec<Socket>, sender: &UnboundedSender<Heard>) {
    loop {
        let heard = wait(&sockets).and_then(|()| Ok(drain_all(&mut sockets)?));
        let failed = heard.is_err();
        if heard.as_ref().is_ok_and(Vec::is_empty) {
            // Others' doings in the packet filter are no reason to wake anybody.
            continue;
        }
        if sender.send(heard).is_err() || failed {
            return;
        }
    }
}

/// Listens to the packet filter. Without nf_tables in the kernel, or the right to listen, there is
/// the regular reading.
fn tables() -> Option<Socket> {
    let mut socket = Socket::open(Protocol::Netfilter).ok()?;
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
    socket.subscribe(TABLES).ok()?;
    Some(socket)
}

fn wait(sockets: &[Socket]) -> Result<(), Error> {
    let poll_in = |socket| PollFd::new(socket, PollFlags::POLLIN);
    let mut fds: Vec<_> = sockets.iter().map(|socket| poll_in(socket.as_fd())).collect();
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Error::Monitor(errno.into())),
    }
}

fn drain_all(sockets: &mut [Socket]) -> kernel::Result<Vec<Event>> {
    let mut events = Vec::new();
    for socket in sockets {
        events.extend(drain(socket)?);
    }
    Ok(events)
}

fn drain(socket: &mut Socket) -> kernel::Result<Vec<Event>> {
    let mut events = Vec::new();
    loop {
        match socket.events()? {
            Some(replies) => {
                events.extend(replies.iter().filter_map(event));
                return Ok(events);
            }
            None => events.push(Event::Overrun),
        }
    }
}

fn event(reply: &Reply) -> Option<Event> {
    if reply.kind >> 8 == libc::NFNL_SUBSYS_NFTABLES as u16 {
        return filter::concerns_us(reply).then_some(Event::Host);
    }
    Some(match reply.kind {
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            Event::Route { route: route(reply)?, gone: reply.kind == libc::RTM_DELROUTE }
        }
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => Event::Neighbour(reply.u32_at(NEIGHBOUR_LINK)),
        RTM_NEWNETCONF | RTM_DELNETCONF => return is_about_all_links(reply).then_some(Event::Host),
        _ => Event::Link,
    })
}

/// Whether a setting of all links has changed, such as forwarding. Each new link has such events
/// of its own.
fn is_about_all_links(reply: &Reply) -> bool {
    let index = reply.attributes(NETCONF_HEADER).get(NETCONFA_IFINDEX);
    index.is_some_and(|index| index.value == ALL_LINKS.to_ne_bytes())
}

/// One with several next hops is told of once for each, and is one route all the same.
fn route(reply: &Reply) -> Option<Route> {
    let routes = kernel::route::parse(reply);
    routes.first().filter(|route| route.table == TABLE_MAIN).map(observed::route)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use ipnetwork::IpNetwork;
    use kernel::route::{Route, add, delete};
    use kernel::{NetNs, Rtnl, address, link};

    use super::*;

    fn namespace() -> (NetNs, Rtnl, u32) {
        let namespace = NetNs::create().unwrap();
        let mut rtnl = Rtnl::open_in(&namespace).unwrap();
        let lo = rtnl.link_by_name("lo").unwrap().unwrap().index;
        rtnl.request(&link::set_up(lo)).unwrap();
        (namespace, rtnl, lo)
    }

    fn route(number: u32, lo: u32) -> Route {
        let address = std::net::Ipv4Addr::from_bits(0x0b00_0000 + (number << 8));
        let destination = IpNetwork::new(address.into(), 24).unwrap();
        Route { protocol: 214, scope: libc::RT_SCOPE_LINK, ..Route::new(destination).dev(lo) }
    }

    /// Waits until an event is heard.
    fn wait_for(monitor: &mut Monitor, event: Event) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let heard = async { while !monitor.next().await.unwrap().contains(&event) {} };
        let patience = Duration::from_secs(10);
        let in_time = async { tokio::time::timeout(patience, heard).await };
        runtime.block_on(in_time).unwrap_or_else(|_| panic!("{event:?} was not heard"));
    }

    #[test]
    fn routes_addresses_and_links_are_heard_of() {
        let (namespace, mut rtnl, lo) = namespace();
        let mut monitor = namespace.run(Monitor::open).unwrap().unwrap();
        let told = observed::route(&route(0, lo));
        for (change, gone) in [(add(&route(0, lo)), false), (delete(&route(0, lo)), true)] {
            rtnl.request(&change).unwrap();
            wait_for(&mut monitor, Event::Route { route: told, gone });
        }
        let own = "10.1.0.1/24".parse().unwrap();
        rtnl.request(&address::add(lo, own, false)).unwrap();
        wait_for(&mut monitor, Event::Link);
    }

    #[test]
    fn neighbours_and_forwarding_entries_are_heard_of_where_there_is_a_tunnel() {
        let namespace = NetNs::create().unwrap();
        let mut rtnl = Rtnl::open_in(&namespace).unwrap();
        let vxlan = link::Vxlan { id: 1, local: None, port: 8472, learning: false };
        let new = link::NewLink {
            name: "vx",
            kind: link::Kind::Vxlan(vxlan),
            namespace: None,
            lower: None,
            mac: None,
            mtu: None,
            up: true,
        };
        rtnl.request(&new.create()).unwrap();
        let link = rtnl.link_by_name("vx").unwrap().unwrap().index;
        let mac = kernel::MacAddress([2, 0, 0, 0, 0, 1]);
        let (there, node) = ([10, 0, 2, 0].into(), [10, 101, 0, 3].into());
        let mut monitor = namespace.run(Monitor::open_with_neighbours).unwrap().unwrap();
        for change in [
            kernel::neighbour::set_permanent(link, there, mac),
            kernel::neighbour::delete(link, there),
            kernel::fdb::set(link, mac, node),
            kernel::fdb::delete(link, mac, node),
        ] {
            rtnl.request(&change).unwrap();
            wait_for(&mut monitor, Event::Neighbour(link));
        }
    }

    #[test]
    fn an_overrun_is_told_after_the_queue_is_empty() {
        let (namespace, mut rtnl, lo) = namespace();
        let mut socket = namespace
            .run(|| {
                let mut socket = Socket::open(Protocol::Route).unwrap();
                GROUPS.iter().for_each(|&group| socket.subscribe(group).unwrap());
                socket
            })
            .unwrap();
        // The default queue holds about 250 of them.
        let many: Vec<_> = (0..1000).map(|number| add(&route(number, lo))).collect();
        rtnl.request_all(&many).unwrap();
        assert!(drain(&mut socket).unwrap().contains(&Event::Overrun));
        // Had the queue not been emptied, this would be dropped without a word.
        rtnl.request(&delete(&route(7, lo))).unwrap();
        let went = Event::Route { route: observed::route(&route(7, lo)), gone: true };
        assert_eq!(drain(&mut socket).unwrap(), [went]);
    }
}
