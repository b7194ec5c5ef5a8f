//! Removing a link without waiting for the kernel to forget it.
//!
//! The kernel answers a deletion when nobody can have a pointer to the link any more: 8 to 24 ms
//! after nobody can use it (`netdev_run_todo()` waits for `rcu_barrier()`). That wait is left to a
//! child process. This one goes on when the kernel tells the listeners of its namespace that the
//! link is gone: then the link is down, its addresses and routes are removed and no name or index
//! leads to it. Both ends of a veth are taken down before any of them is told of; which one is
//! removed decides which one comes last ([`delete_other_end`]).

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{HEADER, IFLA_NEW_NETNSID, Link, delete, delete_other_end};
use crate::Rtnl;
use crate::netlink::{Error, Message, News, Reply, Result};
use crate::process::child::Child;

/// `RTNLGRP_LINK`.
const LINKS: u32 = 1;

impl Rtnl {
    /// Removes a link of the socket's namespace, and with a veth its other end. It is gone when
    /// this returns; one that was gone before is no error. The socket is used up: it goes on to
    /// receive what is of no interest to others.
    ///
    /// # Errors
    /// The kernel refuses, or has not told within `patience` that the link is gone.
    pub fn remove(mut self, link: &Link, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        self.socket.subscribe(LINKS)?;
        let by_other_end = delete_other_end(link);
        let mut done = by_other_end.map(|request| self.see_through(&request, link.index, until));
        if !matches!(done, Some(Ok(()) | Err(Error::TooLate { .. }))) {
            // There is no other end, or it is elsewhere by now, or its namespace is about to die.
            done = Some(self.see_through(&delete(link.index), link.index, until));
        }
        match done {
            Some(Err(Error::TooLate { what, .. })) => {
                Err(Error::TooLate { what, waited: patience })
            }
            Some(Err(error)) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }

    /// Has a request sent, and waits until the kernel tells that the link of this index is gone.
    fn see_through(&mut self, request: &Message, index: u32, until: Instant) -> Result<()> {
        let datagram = self.socket.prepare(request);
        let mut child = Child::send(self.socket.as_fd(), &datagram).ok();
        if child.is_none() {
            // Then this process waits itself.
            self.socket.send_prepared(request, &datagram)?;
        }
        loop {
            // Asked before the socket is read: what the child has sent is answered when it ends.
            let has_ended = self.wait_for_news(child.as_ref(), until, request)?;
            for news in self.socket.news(request)? {
                match news {
                    News::Event(event) if is_end_of(index, &event) => return Ok(()),
                    News::Event(_) => {}
                    News::Answer(answer) => return answer,
                }
            }
            if has_ended {
                return Err(not_sent(child.take(), request));
            }
        }
    }

    /// Waits for something to read, or the child's end, and says whether that is it.
    fn wait_for_news(
        &self,
        child: Option<&Child>,
        until: Instant,
        request: &Message,
    ) -> Result<bool> {
        let what = || request.what().to_owned();
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::TooLate { what: what(), waited: left });
        }
        // Rounded up: a timeout of zero would make the last millisecond a busy one.
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1));
        let mut fds = vec![PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        fds.extend(child.map(|child| PollFd::new(child.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout.unwrap_or(PollTimeout::MAX)) {
            Ok(_) => Ok(fds.get(1).is_some_and(|child| child.any().unwrap_or(true))),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(Error::Socket { what: what(), source: errno.into() }),
        }
    }
}

/// Whether an event tells that the link of this index is gone: not that it is no port of a bridge
/// any more, and not that it went to another namespace.
fn is_end_of(index: u32, event: &Reply) -> bool {
    event.kind == libc::RTM_DELLINK
        && event.u8_at(0) == libc::AF_UNSPEC as u8
        && event.u32_at(4) == index
        && event.attributes(HEADER).get(IFLA_NEW_NETNSID).is_none()
}

/// Why there is no answer, although the child has ended.
fn not_sent(child: Option<Child>, request: &Message) -> Error {
    let what = request.what().to_owned();
    match child.and_then(|mut child| child.failure()) {
        Some(errno) => Error::Socket { what, source: errno.into() },
        None => Error::NoAnswer { what },
    }
}
