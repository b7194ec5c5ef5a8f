//! TCP probes: an endpoint that tells every caller the address it was called from.
//!
//! What a Pod sees as its own address must be the one that others see. So a probe returns both:
//! the source address by the caller's own socket, and the one that the other end saw.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kernel::NetNs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{Context, LabError, Result};

/// A connection that does not come about in this time is taken as refused by the network.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The port every endpoint listens on: each has a namespace of its own.
pub const PORT: u16 = 7000;

/// An endpoint in a namespace, for IPv4 and IPv6, until this value is dropped.
#[derive(Debug)]
pub struct Endpoint {
    /// Closing it ends the serving thread.
    stop: Option<UnixStream>,
    serving: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Listens on every address of the namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, or something listens there already.
    pub fn serve(netns: &NetNs) -> Result<Self> {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
        let listener =
            netns.run(|| TcpListener::bind(any))?.context(|| format!("listen on {any}"))?;
        let (stop, stopped) = UnixStream::pair().context(|| "make a pair of sockets".to_owned())?;
        // A socket stays in its namespace; the thread need not be there.
        let serving = thread::spawn(move || serve(&listener, &stopped));
        Ok(Endpoint { stop: Some(stop), serving: Some(serving) })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            // A panic of the thread shows as callers without an answer.
            let _ = serving.join();
        }
    }
}

fn serve(listener: &TcpListener, stopped: &UnixStream) {
    loop {
        let mut ready = [
            PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        let polled = poll(&mut ready, PollTimeout::NONE);
        if polled.is_err() || ready[1].any().unwrap_or(true) {
            return;
        }
        if let Ok((mut caller, from)) = listener.accept() {
            // A caller that has gone away is its own affair.
            let _ = caller.write_all(from.ip().to_canonical().to_string().as_bytes());
        }
    }
}

/// The two views of one connection's source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The address of the caller's own socket.
    pub own: IpAddr,
    /// The address that the other end saw.
    pub seen: IpAddr,
}

/// Calls the [`Endpoint`] at `to` from inside a namespace.
///
/// # Errors
/// No connection within [`DEADLINE`], or no answer on it.
pub fn call(from: &NetNs, to: IpAddr) -> Result<Source> {
    call_within(from, to, DEADLINE)
}

/// As [`call`], for a call that is meant to fail: less time is lost by it.
///
/// # Errors
/// No connection within `deadline`, or no answer on it.
pub fn call_within(from: &NetNs, to: IpAddr, deadline: Duration) -> Result<Source> {
    call_port(from, SocketAddr::from((to, PORT)), deadline)
}

/// As [`call_within`], by another port that leads to the [`Endpoint`].
///
/// # Errors
/// As [`call_within`].
pub fn call_port(from: &NetNs, to: SocketAddr, deadline: Duration) -> Result<Source> {
    let what = || format!("connect to {to}");
    let connected = from.run(|| TcpStream::connect_timeout(&to, deadline))?;
    let mut stream = connected.context(what)?;
    stream.set_read_timeout(Some(deadline)).context(what)?;
    let own = stream.local_addr().context(what)?.ip().to_canonical();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context(|| format!("read the answer of {to}"))?;
    let seen = answer
        .parse()
        .map_err(|_| LabError::Wrong(format!("{to} answered {answer:?}, no address")))?;
    Ok(Source { own, seen })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::error::Outcome;
    use crate::node::Node;
    use crate::require;

    #[test]
    fn an_endpoint_tells_its_callers_address_in_both_families() -> Outcome {
        if !require::root()? {
            return Ok(());
        }
        let node = Node::create("alone")?;
        let endpoint = Endpoint::serve(node.netns())?;
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let source = call(node.netns(), address)?;
            assert_eq!(source, Source { own: address, seen: address });
        }
        drop(endpoint);
        assert!(call(node.netns(), IpAddr::V4(Ipv4Addr::LOCALHOST)).is_err());
        Ok(())
    }
}
