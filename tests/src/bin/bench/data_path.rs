//! What packets pay: TCP from Pod to Pod, on one node and across two.
//!
//! The same Pods are attached by cbr0, by hand, and by hand once more: how far those two are apart
//! shows what a difference means. All hosts have the same hooks, a rule that masquerades what is in
//! an empty set; so every connection is tracked, as where the route syncer runs. The routes between
//! the nodes are the same, too.

use std::io::{Read, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::pod::{self, Pod};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::topology::{Topology, node_addresses, pod_ranges};
use cbr0_tests::{LabError, Result, bins, floor};
use kernel::route::{self, Route};
use kernel::sysctl;
use serde_json::json;

use crate::by_hand;
use crate::record::Unit;
use crate::subject::{Case, Lane, Sample, Setting, Subject};
use crate::suite::OURS;

/// The subject `data-path`.
pub(crate) struct DataPath;

/// Who attaches the Pods.
const MAKERS: [&str; 3] = [OURS, "by hand", "by hand again"];

/// Between whom.
#[derive(Debug, Clone, Copy)]
enum Way {
    OneNode,
    TwoNodes,
}

/// What is measured on a connection, for this long.
type Measurement = fn(&mut TcpStream, TcpStream, Duration) -> Result<f64>;

impl Subject for DataPath {
    fn name(&self) -> &'static str {
        "data-path"
    }

    fn about(&self) -> &'static str {
        "TCP from Pod to Pod, beside Pods attached by hand"
    }

    fn cases(&self, setting: &Setting) -> Vec<Case> {
        let length = Duration::from_millis(if setting.short { 20 } else { 250 });
        let case = |way, what, unit, measure: Measurement| {
            let title = match way {
                Way::OneNode => format!("TCP {what}, Pod to Pod on one node"),
                Way::TwoNodes => format!("TCP {what}, Pod to Pod across two nodes"),
            };
            let lane = move |maker| {
                lane(maker, way, what, move |connection| {
                    let (mut client, server) = connection;
                    measure(&mut client, server, length)
                })
            };
            let prepare = move || MAKERS.into_iter().map(lane).collect();
            Case { title, unit, prepare: Box::new(prepare) }
        };
        let both = |way| {
            [
                case(way, "throughput", Unit::GigabitsPerSecond, throughput),
                case(way, "round trip", Unit::Microseconds, round_trip),
            ]
        };
        [Way::OneNode, Way::TwoNodes].into_iter().flat_map(both).collect()
    }
}

fn lane(
    maker: &'static str,
    way: Way,
    what: &'static str,
    measure: impl Fn((TcpStream, TcpStream)) -> Result<f64> + 'static,
) -> Result<Lane> {
    let scene = Scene::build(maker, way)?;
    let turn = move || {
        let value = measure(scene.connect()?)?;
        Ok(vec![Sample { what, value }])
    };
    Ok(Lane { suite: maker.to_owned(), turn: Box::new(turn) })
}

/// Two Pods that reach each other.
struct Scene {
    from: Pod,
    to: Pod,
    address: IpAddr,
    _hosts: Topology,
}

impl Scene {
    fn build(maker: &str, way: Way) -> Result<Scene> {
        let hosts = Topology::create(2)?;
        let mut pods = vec![Pod::create("from")?, Pod::create("to")?];
        let shares: &[usize] = match way {
            Way::OneNode => &[2],
            Way::TwoNodes => &[1, 1],
        };
        let mut addresses = Vec::new();
        let mut rest = &pods[..];
        for ((&share, node), number) in shares.iter().zip(&hosts.nodes).zip(1..) {
            let (here, elsewhere) = rest.split_at(share);
            rest = elsewhere;
            connect_nodes(node, number)?;
            addresses.extend(attach(maker, node, here, number)?);
        }
        let none = || LabError::Wrong("a Pod has no address".to_owned());
        let address = addresses.pop().ok_or_else(none)?;
        let (Some(to), Some(from)) = (pods.pop(), pods.pop()) else { return Err(none()) };
        Ok(Scene { from, to, address, _hosts: hosts })
    }

    /// A connection: the caller's end, and the other.
    fn connect(&self) -> Result<(TcpStream, TcpStream)> {
        let what = || format!("connect to {}", self.address);
        let any = SocketAddr::from((self.address, 0));
        let listener = self.to.netns().run(|| TcpListener::bind(any))?.context(what)?;
        let to = listener.local_addr().context(what)?;
        let client = self.from.netns().run(|| TcpStream::connect(to))?.context(what)?;
        let (server, _) = listener.accept().context(what)?;
        for end in [&client, &server] {
            end.set_nodelay(true).context(what)?;
        }
        Ok((client, server))
    }
}

/// What both kinds of Pods find: the node forwards, knows the way to the other's Pods, has its hooks.
fn connect_nodes(node: &Node, number: u8) -> Result<()> {
    let other = 3 - number;
    node.netns().run(|| sysctl::set("net/ipv4/ip_forward", "1"))??;
    let [range, _] = pod_ranges(other);
    let [gateway, _] = node_addresses(other);
    node.rtnl()?.request(&route::add(&Route::new(range).via(gateway)))?;
    floor::masquerade(node)
}

fn attach(maker: &str, node: &Node, pods: &[Pod], number: u8) -> Result<Vec<IpAddr>> {
    let [range, _] = pod_ranges(number);
    if maker != OURS {
        return by_hand::attach(node, pods, range);
    }
    let ipam =
        json!({"type": "host-local", "subnet": range.to_string(), "dataDir": node.data_dir()});
    let plugin =
        json!({"type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "ipam": ipam});
    let list = json!({"cniVersion": "1.0.0", "name": "bench", "plugins": [plugin]});
    let network = Network::from_value(&list)?;
    let mut runtime = Runtime::new(node, bins::plugin_dir()?);
    let added = pods.iter().map(|pod| {
        let result = runtime.add(&network, &pod.attachment())?;
        pod::addresses(&result)
    });
    Ok(added.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// In Gbit/s: as much as goes through until the other end has read it all.
fn throughput(client: &mut TcpStream, mut server: TcpStream, length: Duration) -> Result<f64> {
    let chunk = vec![0; 128 << 10];
    let what = || "send to a Pod".to_owned();
    let begun = Instant::now();
    let received = thread::scope(|scope| {
        let reader = scope.spawn(move || count(&mut server));
        while begun.elapsed() < length {
            client.write_all(&chunk).context(what)?;
        }
        client.shutdown(std::net::Shutdown::Write).context(what)?;
        reader.join().map_err(|_| LabError::Wrong("a thread of the bench died".to_owned()))?
    })?;
    Ok(received as f64 * 8e-9 / begun.elapsed().as_secs_f64())
}

fn count(stream: &mut impl Read) -> Result<usize> {
    let mut buffer = vec![0; 128 << 10];
    let mut sum = 0;
    loop {
        match stream.read(&mut buffer).context(|| "receive in a Pod".to_owned())? {
            0 => return Ok(sum),
            length => sum += length,
        }
    }
}

/// In µs: how long a byte and its answer take, on average over the time.
fn round_trip(client: &mut TcpStream, mut server: TcpStream, length: Duration) -> Result<f64> {
    let what = || "exchange bytes with a Pod".to_owned();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut byte = [0];
            while server.read_exact(&mut byte).and_then(|()| server.write_all(&byte)).is_ok() {}
        });
        let (mut byte, mut trips) = ([0], 0u32);
        let begun = Instant::now();
        while begun.elapsed() < length {
            client.write_all(&byte).context(what)?;
            client.read_exact(&mut byte).context(what)?;
            trips += 1;
        }
        let took = begun.elapsed();
        // Ends the other end's thread.
        client.shutdown(std::net::Shutdown::Both).context(what)?;
        Ok(took.as_secs_f64() * 1e6 / f64::from(trips.max(1)))
    })
}
