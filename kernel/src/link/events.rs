//! Waiting for a link to change, by the kernel's events and with a deadline.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Link;
use crate::Rtnl;
use crate::netlink::{Error, Protocol, Socket};

const RTNLGRP_LINK: u32 = 1;

/// A socket that hears of every change to a link of its namespace.
#[derive(Debug)]
pub struct LinkEvents {
    socket: Socket,
}

/// Why waiting ended without what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The kernel could not be asked.
    #[error(transparent)]
    Kernel(#[from] Error),
    /// The link is gone.
    #[error("link {0} went away while it was waited for")]
    Gone(u32),
    /// The deadline passed; the link's last state is told.
    #[error("link {:?} was not ready after {waited:?} (operational state {}, bridge port {:?})", link.name, link.operstate, link.port)]
    TooLate {
        /// The link as it was seen last.
        link: Box<Link>,
        /// How long was waited.
        waited: Duration,
    },
}

impl LinkEvents {
    /// Starts listening in the current namespace; what happens from now on is not missed.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open() -> Result<Self, Error> {
        let mut socket = Socket::open(Protocol::Route)?;
        socket.subscribe(RTNLGRP_LINK)?;
        Ok(LinkEvents { socket })
    }

    /// Waits until the link of this index is as wished, and returns it.
    ///
    /// # Errors
    /// [`WaitError`]; the deadline is `patience` from now.
    pub fn wait(
        &mut self,
        rtnl: &mut Rtnl,
        index: u32,
        patience: Duration,
        ready: impl Fn(&Link) -> bool,
    ) -> Result<Link, WaitError> {
        let start = Instant::now();
        loop {
            // An event says only that something changed: what counts is what the kernel says now.
            let link = rtnl.link_by_index(index)?.ok_or(WaitError::Gone(index))?;
            if ready(&link) {
                return Ok(link);
            }
            let left = patience.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(WaitError::TooLate { link: Box::new(link), waited: patience });
            }
            self.sleep(left)?;
            self.socket.events()?;
        }
    }

    /// Sleeps until an event is there or the time is over.
    fn sleep(&self, at_most: Duration) -> Result<(), Error> {
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => {
                Err(Error::Socket { what: "wait for a link event".into(), source: errno.into() })
            }
        }
    }
}
