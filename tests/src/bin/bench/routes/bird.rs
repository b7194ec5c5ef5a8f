//! Debian's bird for what it can do of this: routes by BGP, every node with every other, with the
//! timers that Calico gives it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::require::Part;
use cbr0_tests::topology::{node_addresses, pod_ranges};
use cbr0_tests::{LabError, Result};
use kernel::route::{self, TABLE_MAIN};

use super::alone::late;
use super::cluster::{Cluster, JOIN, LEAVE, joining};
use super::daemon::PATIENCE;
use super::fleet::MESH;
use super::many::DONE;
use super::milliseconds;
use super::store::Claim;
use crate::subject::{Lane, Sample};

/// Its label.
pub(crate) const BIRD: &str = "bird";
/// `RTPROT_BIRD`.
const PROTOCOL: u8 = 12;
/// What a node announces besides its own range.
const JOINED: &str = "joined.conf";

/// A bird. It ends with this value; its routes stay.
struct Bird {
    process: Child,
    folder: PathBuf,
}

/// One node announces another range, and takes that back. None without bird.
pub(crate) fn joins(nodes: u8) -> Result<Option<Lane>> {
    let Some(program) = Part::Bird.find() else { return Ok(None) };
    let cluster = Cluster::build(nodes, nodes - 1, PROTOCOL)?;
    let birds = start(&program, &cluster)?;
    cluster.meshed()?;
    let claim = joining()?;
    Ok(lane(move || {
        let joiner = birds.last().ok_or_else(|| LabError::Wrong("no nodes".to_owned()))?;
        let begun = Instant::now();
        joiner.announce(Some(&claim))?;
        let mut samples = cluster.on_all(JOIN, &claim, begun)?;
        let begun = Instant::now();
        joiner.announce(None)?;
        samples.extend(cluster.on_all(LEAVE, &claim, begun)?);
        Ok(samples)
    }))
}

/// From the start of the first until the last route is there. None without bird.
pub(crate) fn starts(nodes: u8) -> Result<Option<Lane>> {
    let Some(program) = Part::Bird.find() else { return Ok(None) };
    let cluster = Cluster::build(nodes, nodes, PROTOCOL)?;
    Ok(lane(move || {
        let begun = Instant::now();
        let birds = start(&program, &cluster)?;
        let end = cluster.meshed()?;
        drop(birds);
        cluster.flush()?;
        Ok(vec![Sample { what: MESH, value: milliseconds(begun, end) }])
    }))
}

/// A route is deleted, and back. None without bird.
pub(crate) fn repairs() -> Result<Option<Lane>> {
    let Some(program) = Part::Bird.find() else { return Ok(None) };
    let cluster = Cluster::build(2, 1, PROTOCOL)?;
    let birds = start(&program, &cluster)?;
    cluster.meshed()?;
    Ok(lane(move || {
        let (_running, node) = (&birds, &cluster.nodes[0]);
        let mut rtnl = node.rtnl()?;
        let routes = rtnl.routes(TABLE_MAIN)?.into_iter();
        let ours: Vec<_> = routes.filter(|route| route.protocol == PROTOCOL).collect();
        let begun = Instant::now();
        rtnl.request_all(&ours.iter().map(route::delete).collect::<Vec<_>>())?;
        let back = cluster.events.wait(PATIENCE, |seen| seen.there)?;
        let back = back.ok_or_else(|| late("a route that bird repairs"))?;
        Ok(vec![Sample { what: DONE, value: milliseconds(begun, back.at) }])
    }))
}

fn lane(turn: impl FnMut() -> Result<Vec<Sample>> + 'static) -> Option<Lane> {
    Some(Lane { suite: BIRD.to_owned(), turn: Box::new(turn) })
}

fn start(program: &Path, cluster: &Cluster) -> Result<Vec<Bird>> {
    let count = u8::try_from(cluster.nodes.len()).unwrap_or(u8::MAX);
    let start = |(number, node)| Bird::start(program, node, number, count);
    (1..).zip(&cluster.nodes).map(start).collect()
}

impl Bird {
    fn start(program: &Path, node: &Node, number: u8, count: u8) -> Result<Self> {
        let folder = node.folder().to_owned();
        write(&folder.join(JOINED), "")?;
        write(&folder.join("bird.conf"), &configuration(&folder, number, count))?;
        let mut command = Command::new(program);
        command.arg("-f").arg("-c").arg(folder.join("bird.conf"));
        command.arg("-s").arg(folder.join("socket")).arg("-P").arg(folder.join("pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = node.netns().run(|| command.spawn())?.context(|| "start bird".to_owned())?;
        Ok(Bird { process, folder })
    }

    /// Has it announce this range, too, or not any more.
    fn announce(&self, claim: Option<&Claim>) -> Result<()> {
        let text = claim.map_or(String::new(), |claim| {
            format!("protocol static joined {{ ipv4; route {} unreachable; }}\n", claim.range)
        });
        write(&self.folder.join(JOINED), &text)?;
        let what = || "tell bird of a changed configuration".to_owned();
        let mut socket = UnixStream::connect(self.folder.join("socket")).context(what)?;
        socket.write_all(b"configure\n").context(what)?;
        // It greets, and says what it does; it need not be done.
        let mut line = String::new();
        let mut answers = BufReader::new(socket);
        while !line.starts_with("0003") && !line.starts_with("0004") {
            line.clear();
            if answers.read_line(&mut line).context(what)? == 0 || line.starts_with('8') {
                return Err(LabError::Wrong(format!("bird takes no configuration: {line}")));
            }
        }
        Ok(())
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).context(|| format!("write {}", file.display()))
}

/// Timers as in Calico's `bird.cfg.template`.
fn configuration(folder: &Path, number: u8, count: u8) -> String {
    let (own, range) = (node_addresses(number)[0], pod_ranges(number)[0]);
    let joined = folder.join(JOINED);
    let mut text = format!(
        "router id {own};
protocol device {{ scan time 2; }}
protocol kernel {{ scan time 2; persist; ipv4 {{ import none; export where source = RTS_BGP; }}; }}
protocol static own {{ ipv4; route {range} unreachable; }}
include \"{}\";
template bgp mesh {{
  local as 64512; connect delay time 2; connect retry time 5; error wait time 5, 30;
  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};
}}
",
        joined.display()
    );
    for other in (1..=count).filter(|&other| other != number) {
        let address = node_addresses(other)[0];
        let _ =
            writeln!(text, "protocol bgp n{other} from mesh {{ neighbor {address} as 64512; }}");
    }
    text
}
