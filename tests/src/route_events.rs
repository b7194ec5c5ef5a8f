//! Hearing of every route that comes and goes in some namespaces, each with the moment.
//!
//! One thread listens to all of them: what comes in several namespaces at once costs the machine
//! one awakening, and the moments can be compared.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use kernel::NetNs;
use kernel::netlink::{Protocol, Reply, Socket};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};

use crate::error::{Context, LabError, Result};

/// The receive buffer of each socket in bytes: some 20,000 events.
const BUFFER: usize = 16 << 20;
/// `RTNLGRP_IPV4_ROUTE` and `RTNLGRP_IPV6_ROUTE`.
const GROUPS: [u32; 2] = [7, 11];
/// The length of `struct rtmsg`, and where it has the prefix length and the protocol.
const HEADER: usize = 12;
const PREFIX: usize = 1;
const PROTOCOL: usize = 5;

/// A route of the protocol that is listened for came, changed or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When it was read from the socket (`CLOCK_MONOTONIC`).
    pub at: Instant,
    /// In which of the namespaces, by its place.
    pub place: usize,
    /// Whether it is there now.
    pub there: bool,
    /// Where it leads.
    pub destination: IpNetwork,
    /// Its next hop.
    pub gateway: Option<IpAddr>,
}

/// Listens until dropped. IPv4 routes that go with a link or an address go unheard: the kernel does
/// not tell.
#[derive(Debug)]
pub struct RouteEvents {
    heard: Receiver<Result<Seen>>,
    /// Closing it ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl RouteEvents {
    /// Starts to listen for routes of a protocol (`RTPROT_*`); what happens from now on is not
    /// missed.
    ///
    /// # Errors
    /// A namespace cannot be entered, or the kernel gives no socket.
    pub fn open<'a>(places: impl IntoIterator<Item = &'a NetNs>, protocol: u8) -> Result<Self> {
        let sockets = places.into_iter().map(|netns| netns.run(socket)?);
        let mut sockets = sockets.collect::<Result<Vec<_>>>()?;
        let (stop, stopped) = UnixStream::pair().context(|| "make a pair of sockets".to_owned())?;
        let (sender, heard) = mpsc::channel();
        let thread = thread::spawn(move || listen(&mut sockets, &stopped, protocol, &sender));
        Ok(RouteEvents { heard, stop: Some(stop), thread: Some(thread) })
    }

    /// Waits until `look` says yes to an event, and returns that. It is asked about every event
    /// once, in their order. `None` after `patience`.
    ///
    /// # Errors
    /// Events were lost, or a socket failed.
    pub fn wait(
        &self,
        patience: Duration,
        mut look: impl FnMut(&Seen) -> bool,
    ) -> Result<Option<Seen>> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(seen) = self.heard.recv_timeout(left) else { return Ok(None) };
            let seen = seen?;
            if look(&seen) {
                return Ok(Some(seen));
            }
        }
    }

    /// The events that were heard and not asked about yet.
    ///
    /// # Errors
    /// As [`RouteEvents::wait`].
    pub fn so_far(&self) -> Result<Vec<Seen>> {
        self.heard.try_iter().collect()
    }
}

impl Drop for RouteEvents {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn socket() -> Result<Socket> {
    let mut socket = Socket::open(Protocol::Route)?;
    let what = || "make room for netlink events".to_owned();
    setsockopt(&socket, RcvBufForce, &BUFFER).context(what)?;
    for group in GROUPS {
        socket.subscribe(group)?;
    }
    Ok(socket)
}

/// Tells what it hears, until it is stopped or something fails.
fn listen(
    sockets: &mut [Socket],
    stopped: &UnixStream,
    protocol: u8,
    sender: &Sender<Result<Seen>>,
) {
    loop {
        let ready = match ready(sockets, stopped) {
            Ok(Some(ready)) => ready,
            Ok(None) => return,
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        for place in ready {
            let heard = read(&mut sockets[place], place, protocol);
            let failed = heard.is_err();
            let told = match heard {
                Ok(events) => events.into_iter().try_for_each(|seen| sender.send(Ok(seen))),
                Err(error) => sender.send(Err(error)),
            };
            if failed || told.is_err() {
                return;
            }
        }
    }
}

/// The sockets that have something to read; none at the end.
fn ready(sockets: &[Socket], stopped: &UnixStream) -> Result<Option<Vec<usize>>> {
    let poll_in = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds: Vec<_> = sockets.iter().map(|socket| poll_in(socket.as_fd())).collect();
    fds.push(poll_in(stopped.as_fd()));
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(errno) => return Err(errno).context(|| "poll".to_owned()),
    }
    let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
    if fds.pop().is_none_or(|stopped| is_ready(&stopped)) {
        return Ok(None);
    }
    let ready = fds.iter().enumerate().filter(|(_, fd)| is_ready(fd));
    Ok(Some(ready.map(|(place, _)| place).collect()))
}

fn read(socket: &mut Socket, place: usize, protocol: u8) -> Result<Vec<Seen>> {
    let replies = socket.events()?.ok_or_else(|| {
        let lost = io::Error::from_raw_os_error(libc::ENOBUFS);
        LabError::Wrong(format!("events of namespace {place} were lost: {lost}"))
    })?;
    let at = Instant::now();
    let ours = replies.iter().filter(|reply| reply.u8_at(PROTOCOL) == protocol);
    Ok(ours.filter_map(|reply| seen(reply, at, place)).collect())
}

fn seen(reply: &Reply, at: Instant, place: usize) -> Option<Seen> {
    let there = match reply.kind {
        libc::RTM_NEWROUTE => true,
        libc::RTM_DELROUTE => false,
        _ => return None,
    };
    let address = |kind| {
        let value = reply.attributes(HEADER).get(kind)?.value;
        let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
        v4.or(<[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
    };
    let destination = IpNetwork::new(address(libc::RTA_DST)?, reply.u8_at(PREFIX)).ok()?;
    Some(Seen { at, place, there, destination, gateway: address(libc::RTA_GATEWAY) })
}

#[cfg(test)]
mod tests {
    use kernel::route::{self, Route};

    use super::*;
    use crate::error::Outcome;
    use crate::node::Node;
    use crate::require;

    #[test]
    fn routes_are_seen_where_they_come_and_go_and_others_are_not() -> Outcome {
        if !require::root()? {
            return Ok(());
        }
        let nodes = [Node::create("one")?, Node::create("two")?];
        let events = RouteEvents::open(nodes.iter().map(Node::netns), 214)?;
        let mut rtnl = nodes[1].rtnl()?;
        for (text, protocol) in [("10.1.0.0/24", 213), ("10.2.0.0/24", 214), ("fd01::/64", 214)] {
            let Ok(destination) = text.parse::<IpNetwork>() else { continue };
            let route = Route { protocol, scope: 253, ..Route::new(destination).dev(1) };
            let begun = Instant::now();
            rtnl.request(&route::add(&route))?;
            rtnl.request(&route::delete(&route))?;
            if protocol == 213 {
                continue;
            }
            for there in [true, false] {
                let seen = events.wait(Duration::from_secs(30), |_| true)?;
                let at = seen.map_or(begun, |seen| seen.at);
                assert!(at >= begun);
                assert_eq!(seen, Some(Seen { at, place: 1, there, destination, gateway: None }));
            }
        }
        Ok(())
    }
}
