//! Pings between all Pods, from before something is broken until all are answered again.
//!
//! A ping is a UDP datagram that the other Pod sends back. One thread a Pod sends and answers: it
//! shares no lock with others, so that nothing but the network decides what is lost.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cbr0_tests::error::Context;
use cbr0_tests::{LabError, Result};

use crate::matrix::Party;

/// Every Pod has a namespace of its own, and no other endpoint at this port.
const PORT: u16 = 7001;
/// Between two pings of a Pod to another, unless there are many Pods.
const INTERVAL: Duration = Duration::from_millis(10);
/// How much of the interval a pair of Pods asks for, so that many do not keep the machine busy.
const SHARE: Duration = Duration::from_micros(150);
/// Who is not answered in this time after the end is not reached.
const PATIENCE: Duration = Duration::from_secs(30);

const PING: u8 = 1;
const ANSWER: u8 = 2;
/// A kind, the place of the one called, the number of the ping.
const LENGTH: usize = 1 + 4 + 4;

/// All Pods, pinging each other.
pub(crate) struct Pings {
    threads: Vec<JoinHandle<Result<Vec<Flow>>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ending: AtomicBool,
    /// How many threads have all their answers.
    answered: AtomicUsize,
    pods: usize,
    interval: Duration,
}

/// What became of the pings.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) sent: usize,
    pub(crate) lost: usize,
    /// The longest time that one Pod did not reach another in one family: from the first ping that
    /// was not answered to the next that was.
    pub(crate) longest: Duration,
}

impl Pings {
    /// Starts them.
    pub(crate) fn start(pods: &[Party<'_>]) -> Result<Self> {
        let socket = |pod: &Party<'_>| {
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT));
            pod.netns.run(|| UdpSocket::bind(any))?.context(|| format!("bind to {any}"))
        };
        let sockets = pods.iter().map(socket).collect::<Result<Vec<_>>>()?;
        let pairs: usize = pods.iter().map(|pod| pod.addresses.len() * (pods.len() - 1)).sum();
        let interval = INTERVAL.max(SHARE * u32::try_from(pairs).unwrap_or(u32::MAX));
        let shared = Arc::new(Shared { pods: pods.len(), interval, ..Shared::default() });
        let threads = sockets.into_iter().zip(pods).map(|(socket, own)| {
            let others = pods.iter().filter(|pod| pod.name != own.name);
            let flows = others.flat_map(|pod| pod.addresses.iter().map(|to| Flow::to(*to)));
            let mut pinger = Pinger { socket, flows: flows.collect(), shared: shared.clone() };
            thread::spawn(move || pinger.run().map(|()| pinger.flows))
        });
        Ok(Pings { threads: threads.collect(), shared })
    }

    /// Goes on until every Pod has had an answer of every other to a ping that it sends from now
    /// on, and tells what was lost.
    pub(crate) fn end(self) -> Result<Lost> {
        self.shared.ending.store(true, Ordering::Release);
        let mut all = Lost::default();
        for thread in self.threads {
            let died = |_| LabError::Wrong("a thread that pinged has panicked".to_owned());
            for flow in thread.join().map_err(died)?? {
                let Lost { sent, lost, longest } = flow.lost();
                all.sent += sent;
                all.lost += lost;
                all.longest = all.longest.max(longest);
            }
        }
        Ok(all)
    }
}

/// One Pod's pings to one address.
struct Flow {
    to: SocketAddr,
    /// When each was sent, and whether it was answered.
    pings: Vec<(Instant, bool)>,
}

impl Flow {
    fn to(address: IpAddr) -> Self {
        let mapped = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Flow { to: (mapped, PORT).into(), pings: Vec::new() }
    }

    fn is_answered_since(&self, moment: Instant) -> bool {
        self.pings
            .iter()
            .rev()
            .take_while(|(sent, _)| *sent >= moment)
            .any(|(_, answered)| *answered)
    }

    /// What is under way at the end is nobody's: only what was sent before the last answer counts.
    fn lost(&self) -> Lost {
        let counted =
            self.pings.iter().rposition(|(_, answered)| *answered).map_or(0, |last| last + 1);
        let mut lost = Lost { sent: counted, ..Lost::default() };
        let mut silent_since = None;
        for &(sent, answered) in &self.pings[..counted] {
            if answered {
                let silence = silent_since.take().map_or(Duration::ZERO, |since| sent - since);
                lost.longest = lost.longest.max(silence);
            } else {
                lost.lost += 1;
                silent_since.get_or_insert(sent);
            }
        }
        lost
    }
}

struct Pinger {
    socket: UdpSocket,
    flows: Vec<Flow>,
    shared: Arc<Shared>,
}

impl Pinger {
    /// Pings, and answers, until all threads have their answers.
    fn run(&mut self) -> Result<()> {
        let mut tick = Instant::now();
        let (mut ending, mut done) = (None, false);
        loop {
            self.ping_all();
            tick += self.shared.interval;
            self.receive_until(tick)?;
            if ending.is_none() && self.shared.ending.load(Ordering::Acquire) {
                ending = Some(Instant::now());
            }
            let Some(since) = ending else { continue };
            if !done && self.flows.iter().all(|flow| flow.is_answered_since(since)) {
                done = true;
                self.shared.answered.fetch_add(1, Ordering::AcqRel);
            }
            if self.shared.answered.load(Ordering::Acquire) >= self.shared.pods {
                return Ok(());
            }
            if since.elapsed() > PATIENCE {
                return Err(self.silent(since));
            }
        }
    }

    fn ping_all(&mut self) {
        for (place, flow) in (0_u32..).zip(&mut self.flows) {
            let number = u32::try_from(flow.pings.len()).unwrap_or(u32::MAX);
            flow.pings.push((Instant::now(), false));
            let mut bytes = vec![PING];
            bytes.extend(place.to_be_bytes().into_iter().chain(number.to_be_bytes()));
            // Where there is no route, the ping is lost like any other.
            let _ = self.socket.send_to(&bytes, flow.to);
        }
    }

    fn receive_until(&mut self, until: Instant) -> Result<()> {
        let what = || "receive pings".to_owned();
        let mut bytes = [0; LENGTH];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.socket.set_read_timeout(Some(left)).context(what)?;
            // An error is that of a ping that could not be delivered, or the time is over.
            let Ok((LENGTH, from)) = self.socket.recv_from(&mut bytes) else { continue };
            if bytes[0] == PING {
                bytes[0] = ANSWER;
                let _ = self.socket.send_to(&bytes, from);
            } else {
                self.note(&bytes);
            }
        }
    }

    fn note(&mut self, answer: &[u8; LENGTH]) {
        let number = |at: usize| {
            let bytes = answer[at..].first_chunk().copied().unwrap_or_default();
            usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
        };
        let flow = self.flows.get_mut(number(1));
        if let Some((_, answered)) = flow.and_then(|flow| flow.pings.get_mut(number(5))) {
            *answered = true;
        }
    }

    fn silent(&self, since: Instant) -> LabError {
        let silent = self.flows.iter().find(|flow| !flow.is_answered_since(since));
        let to = silent
            .map_or("others' peers".to_owned(), |flow| flow.to.ip().to_canonical().to_string());
        LabError::Wrong(format!("pings to {to} have not been answered for {PATIENCE:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_counted_and_the_longest_silence_told() {
        let begun = Instant::now();
        let answers = [true, false, true, false, false, true, false];
        let at = |place: u32| begun + Duration::from_millis(10) * place;
        let pings = (0..).zip(answers).map(|(place, answered)| (at(place), answered)).collect();
        let flow = Flow { pings, ..Flow::to(Ipv6Addr::LOCALHOST.into()) };
        // The last one may be under way.
        let expected = Lost { sent: 6, lost: 3, longest: Duration::from_millis(20) };
        assert_eq!(flow.lost(), expected);
        assert!(flow.is_answered_since(at(5)) && !flow.is_answered_since(at(6)));
    }
}
