//! What limits of `bandwidth` let through: TCP between a host and its Pod, both ways.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::pod::{self, Pod};
use cbr0_tests::{LabError, Result, require};
use kernel::NetNs;
use serde_json::{Value, json};

use crate::list::{self, List};
use crate::record::Unit;
use crate::rival::{self, Rival};
use crate::subject::{Case, Lane, Sample, Setting, Subject};

/// In Mbit/s.
pub(crate) const LIMITS: [u64; 3] = [10, 100, 1_000];
/// What is measured of each.
pub(crate) const DIRECTIONS: [&str; 2] = ["to the Pod", "from the Pod"];

/// A connection on which nothing moves for so long is broken.
const STILL: Duration = Duration::from_secs(20);

/// The subject `rates`.
pub(crate) struct Rates;

impl Subject for Rates {
    fn name(&self) -> &'static str {
        "rates"
    }

    fn about(&self) -> &'static str {
        "what TCP carries in Mbit/s between a host and a Pod that bandwidth limits"
    }

    fn cases(&self, setting: &Setting) -> Vec<Case> {
        let length = Duration::from_millis(if setting.short { 100 } else { 2_000 });
        let rivals = rival::by_default(setting, &["bridge", "host-local", "bandwidth"]);
        LIMITS.into_iter().map(|limit| case(rivals.clone(), limit, length)).collect()
    }
}

/// How the comparison of a limit is called.
pub(crate) fn title(limit: u64) -> String {
    format!("bandwidth, a limit of {limit} Mbit/s")
}

fn case(rivals: Vec<Rival>, limit: u64, length: Duration) -> Case {
    let prepare = move || {
        // What a Pod sends is limited on a link of this kind.
        if !require::link_kind("ifb")? {
            return Ok(Vec::new());
        }
        rivals.iter().map(|rival| lane(rival, limit, length)).collect()
    };
    Case { title: title(limit), unit: Unit::MegabitsPerSecond, prepare: Box::new(prepare) }
}

fn lane(rival: &Rival, limit: u64, length: Duration) -> Result<Lane> {
    let scene = Scene::build(rival, limit)?;
    let turn = move || scene.turn(length);
    Ok(Lane { suite: rival.suite.label.clone(), turn: Box::new(turn) })
}

/// A host with a Pod that is limited.
struct Scene {
    host: Node,
    pod: Pod,
    gateway: IpAddr,
    address: IpAddr,
}

impl Scene {
    fn build(rival: &Rival, limit: u64) -> Result<Scene> {
        let (host, pod) = (Node::create("host")?, Pod::create("pod")?);
        let rate = limit * 1_000_000;
        // As much as the limit lets through in 50 ms, so that it is soon used up.
        let burst = rate / 20;
        let limits = json!({
            "ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst,
        });
        let list = List::new(rival, vec![list::bridge(&host), ("bandwidth", limits)]);
        let added = list.add(&pod.attachment(), &host)?;
        let wrong = |error| LabError::Wrong(format!("the result is no JSON: {error}"));
        let result: Value = serde_json::from_str(&added.result).map_err(wrong)?;
        let none = || LabError::Wrong("the Pod has no IPv4 address and gateway".to_owned());
        let gateway = result["ips"][0]["gateway"].as_str().and_then(|text| text.parse().ok());
        let address = pod::addresses(&result)?.first().copied().ok_or_else(none)?;
        Ok(Scene { host, pod, gateway: gateway.ok_or_else(none)?, address })
    }

    fn turn(&self, length: Duration) -> Result<Vec<Sample>> {
        let (host, pod) = (self.host.netns(), self.pod.netns());
        let [to_pod, from_pod] = DIRECTIONS;
        let sample = |what, value| Sample { what, value };
        Ok(vec![
            sample(to_pod, rate(host, pod, self.address, length)?),
            sample(from_pod, rate(pod, host, self.gateway, length)?),
        ])
    }
}

/// What arrives of a connection, in Mbit/s.
fn rate(from: &NetNs, to: &NetNs, address: IpAddr, length: Duration) -> Result<f64> {
    let (sender, receiver) = connect(from, to, address)?;
    thread::scope(|scope| {
        scope.spawn(move || send(sender));
        let received = receive(&receiver, length);
        // It ends the sender, whatever became of the receiving.
        let _ = receiver.shutdown(Shutdown::Both);
        drop(receiver);
        received
    })
}

fn connect(from: &NetNs, to: &NetNs, address: IpAddr) -> Result<(TcpStream, TcpStream)> {
    let what = || format!("connect to {address}");
    let any = SocketAddr::from((address, 0));
    let listener = to.run(|| TcpListener::bind(any))?.context(what)?;
    let place = listener.local_addr().context(what)?;
    let sender = from.run(|| TcpStream::connect_timeout(&place, STILL))?.context(what)?;
    let (receiver, _) = listener.accept().context(what)?;
    sender.set_write_timeout(Some(STILL)).context(what)?;
    receiver.set_read_timeout(Some(STILL)).context(what)?;
    Ok((sender, receiver))
}

/// Sends until the other end does not want any more.
fn send(mut stream: TcpStream) {
    let chunk = vec![0; 64 << 10];
    while stream.write_all(&chunk).is_ok() {}
}

/// In Mbit/s, of what is read in the second half of the time: by then the burst is used up, and TCP
/// has found out that there is a limit.
fn receive(mut stream: &TcpStream, length: Duration) -> Result<f64> {
    let mut buffer = vec![0; 64 << 10];
    let opened = Instant::now();
    let (mut begun, mut bytes) = (opened, 0);
    loop {
        let read = stream.read(&mut buffer).context(|| "receive from a limited Pod".to_owned())?;
        if read == 0 {
            let early = std::io::Error::from(ErrorKind::UnexpectedEof);
            return Err(early).context(|| "receive from a limited Pod".to_owned());
        }
        let now = Instant::now();
        if now - opened < length / 2 {
            begun = now;
        } else {
            bytes += read;
        }
        if now - opened >= length && now > begun {
            return Ok(bytes as f64 * 8e-6 / (now - begun).as_secs_f64());
        }
    }
}
