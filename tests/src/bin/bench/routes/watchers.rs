//! The floor of a join: a watch of etcd for each node, and one thread that reads them all and makes
//! the route.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use cbr0_tests::Result;
use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::topology::UPLINK;
use kernel::Rtnl;
use kernel::route::{self, Route};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::daemon::PROTOCOL;
use super::store::{Claim, PREFIX, Store};

/// They end with this value.
pub(crate) struct Watchers {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// One node's watch, and how its route is made.
struct Watcher {
    stream: BufReader<TcpStream>,
    rtnl: Rtnl,
    route: Route,
}

impl Watchers {
    /// One for each node, for this claim alone.
    pub(crate) fn start(nodes: &[Node], store: &Store, claim: &Claim) -> Result<Self> {
        let watcher = |node: &Node| {
            let mut rtnl = node.rtnl()?;
            let uplink = rtnl.link_by_name(UPLINK)?.map_or(0, |link| link.index);
            let route = Route::new(claim.range).via(claim.gateway.into()).dev(uplink);
            let route = Route { protocol: PROTOCOL, ..route };
            let stream = store.connect()?.watch(&format!("{PREFIX}subnets/"))?;
            Ok(Watcher { stream, rtnl, route })
        };
        let mut watchers = nodes.iter().map(watcher).collect::<Result<Vec<_>>>()?;
        let (stop, stopped) = UnixStream::pair().context(|| "make a pair of sockets".to_owned())?;
        let thread = thread::spawn(move || while step(&mut watchers, &stopped) {});
        Ok(Watchers { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether to go on. What fails shows as a route that does not come.
fn step(watchers: &mut [Watcher], stopped: &UnixStream) -> bool {
    let poll_in = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds: Vec<_> =
        watchers.iter().map(|watcher| poll_in(watcher.stream.get_ref().as_fd())).collect();
    fds.push(poll_in(stopped.as_fd()));
    if poll(&mut fds, PollTimeout::NONE).is_err() {
        return false;
    }
    let mut ready: Vec<_> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
    if ready.pop() != Some(false) {
        return false;
    }
    for (watcher, _) in watchers.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
        watcher.take();
    }
    true
}

impl Watcher {
    fn take(&mut self) {
        let mut line = String::new();
        // A chunk's size, a line of JSON, the chunk's end.
        while !line.ends_with("}\n") {
            line.clear();
            if !matches!(self.stream.read_line(&mut line), Ok(read) if read > 0) {
                return;
            }
        }
        let message = if line.contains("\"type\":\"DELETE\"") {
            route::delete(&self.route)
        } else {
            route::add(&self.route)
        };
        let _ = self.rtnl.request(&message);
        let _ = self.stream.read_line(&mut line);
    }
}
