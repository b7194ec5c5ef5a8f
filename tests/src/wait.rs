//! Waiting: for a descriptor, with a deadline that holds whatever comes in between, and for an address.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use kernel::events::{Events, Topic};
use kernel::{NetNs, Rtnl};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Context, LabError, Result};

/// Waits until there is something to read; false if there is nothing at `until`.
///
/// A signal that stops and continues this process ends a wait early (signal(7)): it goes on then.
///
/// # Errors
/// The kernel does not poll this descriptor.
pub fn readable(fd: &impl AsFd, until: Instant) -> Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            // The kernel counts in milliseconds, rounded down.
            Ok(0) if Instant::now() < until => {}
            Err(Errno::EINTR) => {}
            polled => return polled.map(|count| count > 0).context(|| "poll".to_owned()),
        }
    }
}

/// Waits until an IPv6 address of a link is the namespace's own, which the kernel sees to some time after
/// it was added: a snapshot that was taken before lacks its route.
///
/// # Errors
/// It is no address, or is not in use within a minute.
pub fn for_address(netns: &NetNs, link: u32, address: &str) -> Result<()> {
    let wrong = |why: &str| LabError::Wrong(format!("{address} {why}"));
    let parsed = address.parse().map_err(|_| wrong("is no address"))?;
    let mut rtnl = Rtnl::open_in(netns)?;
    let look = || Ok(rtnl.is_local(link, parsed)?.then_some(()));
    let found = Events::open_in(netns, Topic::Ipv6Routes)?.wait(Duration::from_secs(60), look)?;
    found.ok_or_else(|| wrong("was not in use in time"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_wait_ends_with_data_or_at_its_deadline() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let until = Instant::now() + Duration::from_millis(20);
        assert!(!readable(&there, until).unwrap());
        assert!(Instant::now() >= until);
        here.write_all(b"x").unwrap();
        assert!(readable(&there, until).unwrap(), "what is there already needs no time");
    }

    /// The wait is stopped and continued, and told then that its data are there: a wait that ends
    /// with EINTR would say so.
    #[test]
    fn a_wait_survives_a_stop() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let own = std::process::id();
        let script = format!("kill -STOP {own}; kill -CONT {own}");
        let mut stopper = Command::new("/bin/sh");
        stopper.args(["-c", &script]).stdin(Stdio::null());
        std::thread::scope(|scope| {
            let waiting =
                scope.spawn(|| readable(&there, Instant::now() + Duration::from_secs(60)).unwrap());
            assert!(stopper.status().unwrap().success());
            here.write_all(b"x").unwrap();
            assert!(waiting.join().unwrap());
        });
    }
}
