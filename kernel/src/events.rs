//! Waiting for the kernel to get somewhere: by its events, and with a deadline.
//!
//! Some of what a request asks for the kernel does later, in a work queue of its own: it settles
//! the state of links there, and makes new IPv6 addresses local.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::NetNs;
use crate::netlink::{self, Error, Protocol, Result, Socket};

/// What the kernel tells about (`RTNLGRP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Every change to a link.
    Links,
    /// Every change to an IPv6 route. A new address is in use from when its local route is there.
    Ipv6Routes,
    /// Every change to an IPv6 address, and what duplicate address detection found.
    Ipv6Addresses,
}

/// A socket that hears of every change of a topic in its namespace.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
}

impl Events {
    /// Starts listening in the current namespace; what happens from now on is not missed.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open(topic: Topic) -> Result<Self> {
        let group = match topic {
            Topic::Links => 1,
            Topic::Ipv6Routes => 11,
            Topic::Ipv6Addresses => 9,
        };
        let mut socket = Socket::open(Protocol::Route)?;
        socket.subscribe(group)?;
        Ok(Events { socket })
    }

    /// Starts listening in another namespace; the calling thread stays where it is.
    ///
    /// # Errors
    /// As [`Events::open`], or the namespace cannot be entered.
    pub fn open_in(ns: &NetNs, topic: Topic) -> Result<Self> {
        netlink::open_in(ns, || Self::open(topic))
    }

    /// Waits until `look` finds what it looks for. It is asked at once and after every event,
    /// since an event says only that something has changed. `None` after `patience`.
    ///
    /// # Errors
    /// Those of `look`, or the socket fails.
    pub fn wait<T>(
        &mut self,
        patience: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let start = Instant::now();
        loop {
            if let Some(found) = look()? {
                return Ok(Some(found));
            }
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.sleep(left)?;
            self.socket.events()?;
        }
    }

    /// Sleeps until an event is there or the time is over.
    fn sleep(&self, at_most: Duration) -> Result<()> {
        // Rounded up: a timeout of zero would make the last millisecond a busy one.
        let timeout = PollTimeout::try_from(at_most + Duration::from_millis(1));
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => {
                Err(Error::Socket { what: "wait for an event".into(), source: errno.into() })
            }
        }
    }
}
