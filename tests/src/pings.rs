//! Pings that go on while something happens: which of them were lost?
//!
//! They are datagrams with a number, hundreds a second; whoever gets one sends it back.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kernel::NetNs;

use crate::error::{Context, LabError, Result};

const PORT: u16 = 7001;
/// Less than a daemon takes to start and read the kernel.
const INTERVAL: Duration = Duration::from_millis(2);
/// An answer that has not come so long after the last ping will not come.
const DEADLINE: Duration = Duration::from_secs(5);

/// Whoever sends back what is sent to it, until dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts it in a namespace, for IPv4 and IPv6.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the port is in use.
    pub fn serve(netns: &NetNs) -> Result<Self> {
        let socket = socket(netns, PORT)?;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let echo = move || {
            let mut bytes = [0; 8];
            while !is_over.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                    // Who asks counts what does not come back.
                    let _ = socket.send_to(&bytes[..length], from);
                }
            }
        };
        Ok(Self { stop, thread: Some(thread::spawn(echo)) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Pings that go on.
#[derive(Debug)]
pub struct Pings {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Counts>>,
}

/// What became of pings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// How many were sent.
    pub sent: u64,
    /// The numbers of those that were not answered.
    pub lost: BTreeSet<u64>,
}

impl Pings {
    /// Starts to ping the [`Echo`] at `to` from inside a namespace. The first has been answered when
    /// this returns: the neighbours on the way know each other.
    ///
    /// # Errors
    /// The namespace cannot be entered, or nobody answers.
    pub fn start(from: &NetNs, to: IpAddr) -> Result<Self> {
        let socket = socket(from, 0)?;
        let to = SocketAddr::new(to, PORT);
        let mut counts = Counts { sent: 0, lost: BTreeSet::new() };
        let what = || format!("ping {to}");
        // A dual-stack socket speaks to IPv4 by its mapped addresses.
        let to = SocketAddr::new(mapped(to.ip()).into(), PORT);
        send(&socket, to, &mut counts).context(what)?;
        let until = Instant::now() + DEADLINE;
        while !counts.lost.is_empty() {
            if Instant::now() > until {
                return Err(LabError::Timeout { what: what(), deadline: DEADLINE });
            }
            hear(&socket, &mut counts).context(what)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&stop);
        let thread = thread::spawn(move || go_on(&socket, to, counts, &is_over));
        Ok(Self { stop, thread })
    }

    /// Sends no more, waits for what is under way, and tells what became of them.
    ///
    /// # Errors
    /// The socket failed.
    pub fn stop(self) -> Result<Counts> {
        self.stop.store(true, Ordering::Relaxed);
        let died = |_| LabError::Wrong("the thread that pings died".to_owned());
        self.thread.join().map_err(died)?.context(|| "ping".to_owned())
    }
}

/// A socket of this namespace; its thread need not be there. It waits for one interval at most.
fn socket(netns: &NetNs, port: u16) -> Result<UdpSocket> {
    let what = || format!("open port {port} for pings");
    let socket = netns.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))?.context(what)?;
    socket.set_read_timeout(Some(INTERVAL)).context(what)?;
    Ok(socket)
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn go_on(
    socket: &UdpSocket,
    to: SocketAddr,
    mut counts: Counts,
    is_over: &AtomicBool,
) -> io::Result<Counts> {
    while !is_over.load(Ordering::Relaxed) {
        send(socket, to, &mut counts)?;
        let next = Instant::now() + INTERVAL;
        while Instant::now() < next {
            hear(socket, &mut counts)?;
        }
    }
    let until = Instant::now() + DEADLINE;
    while !counts.lost.is_empty() && Instant::now() < until {
        hear(socket, &mut counts)?;
    }
    Ok(counts)
}

/// Sends the next one, which is lost until it is heard of.
fn send(socket: &UdpSocket, to: SocketAddr, counts: &mut Counts) -> io::Result<()> {
    let number = counts.sent;
    counts.sent += 1;
    counts.lost.insert(number);
    match socket.send_to(&number.to_be_bytes(), to) {
        // No way there, or one of those before was answered so: it is lost.
        Err(error) if is_about_the_way(&error) => Ok(()),
        sent => sent.map(drop),
    }
}

/// Takes an answer, if one comes in time.
fn hear(socket: &UdpSocket, counts: &mut Counts) -> io::Result<()> {
    let mut bytes = [0; 8];
    match socket.recv_from(&mut bytes) {
        Ok(_) => drop(counts.lost.remove(&u64::from_be_bytes(bytes))),
        Err(error) if is_about_the_way(&error) || is_silence(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn is_about_the_way(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Outcome;
    use crate::require;
    use crate::topology::{Topology, node_addresses};

    /// Pings are lost while the wire is cut, and only then.
    #[test]
    fn what_is_lost_is_counted() -> Outcome {
        if !require::root()? {
            return Ok(());
        }
        let lab = Topology::create(2)?;
        let _echo = Echo::serve(lab.nodes[1].netns())?;
        for to in node_addresses(2) {
            let counts = Pings::start(lab.nodes[0].netns(), to)?.stop()?;
            assert!(counts.sent > 0 && counts.lost.is_empty(), "{counts:?}");
        }
        let pings = Pings::start(lab.nodes[0].netns(), node_addresses(2)[0])?;
        crate::topology::detach(&lab.switch, &lab.nodes[1].name)?;
        // It is no wait for anything: it is how long they go on, at least.
        thread::sleep(2 * INTERVAL);
        let counts = pings.stop()?;
        assert!(counts.lost.contains(&(counts.sent - 1)), "{counts:?}");
        Ok(())
    }
}
