//! A node in a throw-away network namespace, with a bridge as its uplink, and the built daemon.
//!
//! Nothing waits by sleeping: a daemon is waited for by what it logs, the kernel by its events,
//! both with a deadline.

mod monitor;

use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use kernel::link::{Bridge, set_up};
use kernel::netlink::{Message, Socket};
use kernel::route::{Route, TABLE_MAIN};
use kernel::{MacAddress, NetNs, Rtnl, address, link};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) use self::monitor::Monitor;

pub(crate) const PROTOCOL: u8 = 214;
/// How long something that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long what an event leads to may take: less than the daemon takes to look at all of itself.
const BEFORE_SAFETY: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) ns: NetNs,
    pub(crate) rtnl: Rtnl,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) uplink: u32,
}

pub(crate) struct Daemon {
    child: Child,
    log: Receiver<String>,
}

/// The entry of a node in the list: node 2 is 10.100.0.2 and has 10.0.2.0/24.
pub(crate) fn entry(number: u8) -> String {
    moved(number, number)
}

/// The entry of a node that has moved to another address.
pub(crate) fn moved(number: u8, address: u8) -> String {
    format!(
        r#"{{"name": "node{number}", "addresses": ["10.100.0.{address}", "fd00:100::{address}"],
            "podCIDRs": ["10.0.{number}.0/24", "fd00:{number}::/64"]}}"#
    )
}

pub(crate) fn entries(numbers: &[u8]) -> String {
    let entries: Vec<String> = numbers.iter().copied().map(entry).collect();
    format!("[{}]", entries.join(",\n"))
}

pub(crate) fn cidr(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Node {
    /// Node 1, with a list of nodes.
    pub(crate) fn new(list: &str) -> Self {
        let ns = NetNs::create().unwrap();
        let mut rtnl = Rtnl::open_in(&ns).unwrap();
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        rtnl.request(&Bridge { name: "uplink0", mac, mtu: None }.create()).unwrap();
        let uplink = rtnl.link_by_name("uplink0").unwrap().unwrap().index;
        let mut node = Self { ns, rtnl, folder: tempfile::tempdir().unwrap(), uplink };
        node.add_addresses();
        node.list(list);
        node
    }

    pub(crate) fn add_addresses(&mut self) {
        for text in ["10.100.0.1/24", "fd00:100::1/64"] {
            self.rtnl.request(&address::add(self.uplink, cidr(text), false)).unwrap();
        }
    }

    pub(crate) fn delete_addresses(&mut self) {
        for text in ["10.100.0.1/24", "fd00:100::1/64"] {
            self.rtnl.request(&address::delete(self.uplink, cidr(text))).unwrap();
        }
    }

    pub(crate) fn set_link_up(&mut self, up: bool) {
        if up {
            return self.rtnl.request(&set_up(self.uplink)).unwrap();
        }
        let mut header = [0; 16];
        header[4..8].copy_from_slice(&self.uplink.to_ne_bytes());
        header[12..16].copy_from_slice(&libc::IFF_UP.to_ne_bytes());
        self.rtnl.request(&Message::new("link down", libc::RTM_SETLINK, 0, &header)).unwrap();
    }

    pub(crate) fn delete_link(&mut self) {
        self.rtnl.request(&link::delete(self.uplink)).unwrap();
    }

    /// Puts a list in the place of the one that is there, as editors do.
    pub(crate) fn list(&self, text: &str) {
        let new = self.folder.path().join("nodes.json.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.nodes_file()).unwrap();
    }

    pub(crate) fn nodes_file(&self) -> PathBuf {
        self.folder.path().join("nodes.json")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Starts the daemon in this node, without waiting for it.
    pub(crate) fn spawn(&self) -> Daemon {
        self.spawn_with(&[])
    }

    pub(crate) fn spawn_with(&self, options: &[&str]) -> Daemon {
        let mut command = self.with_facts("run");
        command.args(options).stderr(Stdio::piped());
        let mut child = self.ns.run(|| command.spawn()).unwrap().unwrap();
        let log = lines(child.stderr.take().unwrap());
        Daemon { child, log }
    }

    /// Starts the daemon for a dry run: its log is what it prints.
    pub(crate) fn spawn_dry(&self) -> Daemon {
        let mut command = self.with_facts("run");
        command.arg("--dry-run").stdout(Stdio::piped());
        let mut child = self.ns.run(|| command.spawn()).unwrap().unwrap();
        let log = lines(child.stdout.take().unwrap());
        Daemon { child, log }
    }

    /// Starts `status --watch` with these options: its log is what it prints.
    pub(crate) fn watch_status(&self, options: &[&str]) -> Daemon {
        let mut command = Command::new(env!("CARGO_BIN_EXE_route-syncer"));
        command.args(["status", "--watch", "--run-dir"]).arg(self.run_dir()).args(options);
        let mut child = self.ns.run(|| command.stdout(Stdio::piped()).spawn()).unwrap().unwrap();
        let log = lines(child.stdout.take().unwrap());
        Daemon { child, log }
    }

    /// What `diff` prints, and its exit code.
    pub(crate) fn diff(&self) -> (String, Option<i32>) {
        self.diff_with(&[])
    }

    pub(crate) fn diff_with(&self, options: &[&str]) -> (String, Option<i32>) {
        let mut command = self.with_facts("diff");
        command.args(options);
        let output = self.ns.run(|| command.output()).unwrap().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    }

    /// Runs the program with a verb and this node's folder: what it says, on both streams, and its
    /// exit code.
    pub(crate) fn call(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_route-syncer"));
        command.args(arguments).arg("--run-dir").arg(self.run_dir());
        let output = self.ns.run(|| command.output()).unwrap().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8(said).unwrap(), output.status.code())
    }

    /// The program with a verb that reads the list of nodes.
    fn with_facts(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_route-syncer"));
        command
            .args([verb, "--source", "file", "--node", "node1", "--cluster-cidr", "10.0.0.0/14"])
            .arg("--nodes-file")
            .arg(self.nodes_file())
            .arg("--run-dir")
            .arg(self.run_dir())
            .env("RUST_LOG", "info");
        command
    }

    /// Starts the daemon and waits until its first sync is done.
    pub(crate) fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    pub(crate) fn start_with(&self, options: &[&str]) -> Daemon {
        let daemon = self.spawn_with(options);
        daemon.wait_for("the first sync is done");
        daemon
    }

    pub(crate) fn status(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_route-syncer"));
        command.arg("status").arg("--run-dir").arg(self.run_dir()).args(arguments);
        self.ns.run(|| command.output()).unwrap().unwrap()
    }

    /// The status of all claims, as `CIDR state(detail)`, once it is as expected.
    pub(crate) fn wait_for_status(&mut self, expected: &[&str]) {
        // The daemon writes its status after it has changed the routes; that has no event here.
        let folder = inotify_of(&self.run_dir());
        let end = Instant::now() + PATIENCE;
        loop {
            let found = self.states();
            if found == expected {
                return;
            }
            assert!(Instant::now() < end, "{found:#?} is not {expected:#?}");
            wait_readable(&folder, end);
            drain(&folder);
        }
    }

    /// Waits until the program says this when it is called so.
    pub(crate) fn wait_for_words(&self, arguments: &[&str], words: &str) {
        let folder = inotify_of(&self.run_dir());
        let end = Instant::now() + PATIENCE;
        loop {
            let (said, _) = self.call(arguments);
            if said.contains(words) {
                return;
            }
            assert!(Instant::now() < end, "no {words:?} in {said}");
            wait_readable(&folder, end);
            drain(&folder);
        }
    }

    fn states(&self) -> Vec<String> {
        let output = self.status(&["--json"]);
        let Ok(shown) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
            return vec![String::from_utf8_lossy(&output.stderr).into_owned()];
        };
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let state = |row: &serde_json::Value| {
            let detail = text(&row["detail"]);
            let detail = if detail.is_empty() { detail } else { format!("({detail})") };
            format!("{} {}{detail}", text(&row["podCIDR"]), text(&row["state"]))
        };
        shown["routes"].as_array().unwrap().iter().map(state).collect()
    }

    /// Our routes to other nodes, as `destination via gateway`, sorted.
    pub(crate) fn routes(&mut self) -> Vec<String> {
        let all = self.rtnl.routes(TABLE_MAIN).unwrap();
        let show = |route: &Route| {
            let gateway = route.gateway.map_or("nothing".into(), |gateway| gateway.to_string());
            format!("{} via {gateway}", route.destination)
        };
        let is_ours =
            |route: &&Route| route.protocol == PROTOCOL && route.kind == libc::RTN_UNICAST;
        let mut routes: Vec<String> = all.iter().filter(is_ours).map(show).collect();
        routes.sort();
        routes
    }

    /// Our routes that lead nowhere, as `destination metric`, sorted.
    pub(crate) fn dead_ends(&mut self) -> Vec<String> {
        let all = self.rtnl.routes(TABLE_MAIN).unwrap();
        let is_ours =
            |route: &&Route| route.protocol == PROTOCOL && route.kind != libc::RTN_UNICAST;
        let show = |route: &Route| format!("{} {}", route.destination, route.priority);
        let mut ends: Vec<String> = all.iter().filter(is_ours).map(show).collect();
        ends.sort();
        ends
    }

    pub(crate) fn route(&mut self, destination: &str) -> Option<Route> {
        let all = self.rtnl.routes(TABLE_MAIN).unwrap();
        all.into_iter().find(|route| route.destination == cidr(destination))
    }

    pub(crate) fn monitor(&self) -> Monitor {
        self.ns.run(Monitor::open).unwrap()
    }

    /// Waits until our routes are these, in the order of [`Node::routes`].
    pub(crate) fn wait_for_routes(&mut self, expected: &[&str]) {
        self.wait_for_list(Self::routes, expected);
    }

    /// Waits until our routes that lead nowhere are these, in the order of [`Node::dead_ends`].
    pub(crate) fn wait_for_dead_ends(&mut self, expected: &[&str]) {
        self.wait_for_list(Self::dead_ends, expected);
    }

    fn wait_for_list(&mut self, list: impl Fn(&mut Self) -> Vec<String>, expected: &[&str]) {
        let mut monitor = self.monitor();
        let end = Instant::now() + BEFORE_SAFETY;
        loop {
            let found = list(self);
            if found == expected {
                return;
            }
            assert!(Instant::now() < end, "{found:#?} is not {expected:#?}");
            wait_readable(&monitor.routes, end);
            monitor.routes.events().unwrap();
        }
    }
}

/// The lines of a stream, as they come.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // A test that has ended reads no more.
            let _ = sender.send(line);
        }
    });
    lines
}

impl Daemon {
    /// Waits for the next lines that it says.
    pub(crate) fn next_lines(&self, count: usize) -> Vec<String> {
        let next = || self.log.recv_timeout(PATIENCE).expect("it says no more");
        (0..count).map(|_| next()).collect()
    }

    /// Waits until the daemon logs a line with this text.
    pub(crate) fn wait_for(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        loop {
            match self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return,
                Ok(line) => lines.push(line),
                Err(_) => panic!("no {text:?} among:\n{}", lines.join("\n")),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Tells the daemon to stop, and returns its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Ends the daemon without a chance to do anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the daemon ends by itself, and returns its exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        // Its log ends with it.
        let end = Instant::now() + PATIENCE;
        let next = || self.log.recv_timeout(end.saturating_duration_since(Instant::now()));
        while next().is_ok() {}
        assert!(Instant::now() < end, "it does not end");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn wait_readable(fd: &impl AsFd, end: Instant) {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap();
        // A stop and continuation of this process ends a wait early.
        match poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(Errno::EINTR) => {}
            polled => {
                polled.unwrap();
                return;
            }
        }
    }
}

/// Asks `look` until it answers true. It waits by calling what it is given, with a socket that hears of
/// changes, and with what to say if there are none in time.
pub(crate) fn wait_readable_until(mut look: impl FnMut(&dyn Fn(&Socket, &str)) -> bool) {
    let end = Instant::now() + BEFORE_SAFETY;
    let wait = |socket: &Socket, words: &str| {
        assert!(Instant::now() < end, "{words}");
        wait_readable(socket, end);
    };
    while !look(&wait) {}
}

fn inotify_of(folder: &std::path::Path) -> inotify::Inotify {
    let inotify = inotify::Inotify::init().unwrap();
    inotify.watches().add(folder, inotify::WatchMask::MOVED_TO).unwrap();
    inotify
}

fn drain(inotify: &inotify::Inotify) {
    let mut buffer = [0; 4096];
    while nix::unistd::read(inotify, &mut buffer).is_ok_and(|length| length > 0) {}
}
