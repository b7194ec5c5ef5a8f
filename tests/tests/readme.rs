//! The commands of the README, run as they stand there.
//!
//! They write to fixed places (`/opt/cni/bin`, `/etc/cni`, `/var/lib/cni`, `/run/netns`), so they
//! run in a mount namespace of their own, where what is written there goes to memory.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::require::{self, Part};
use cbr0_tests::{LabError, Outcome, Result, bins, process};
use kernel::link::Bridge;
use kernel::{MacAddress, address, route};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than a release build from nothing.
const DEADLINE: Duration = Duration::from_secs(1200);

/// Gives `/etc`, `/opt` and `/var` a layer of memory, and `/run` nothing else.
const PRIVATE_PLACES: &str = "
    mount -t tmpfs none /run
    for place in etc opt var; do
        mkdir -p /run/layers/$place/upper /run/layers/$place/work
        mount -t overlay -o lowerdir=/$place,upperdir=/run/layers/$place/upper,workdir=/run/layers/$place/work none /$place
    done
";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// The code block of the README behind the mark `<!-- tested: NAME -->`.
fn block(name: &str) -> Result<String> {
    let path = repository().join("README.md");
    let readme = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
    let behind = readme.split_once(&format!("<!-- tested: {name} -->\n```")).map(|(_, rest)| rest);
    let code =
        behind.and_then(|rest| rest.split_once('\n')).and_then(|(_, rest)| rest.split_once("```"));
    let missing =
        || LabError::Wrong(format!("README.md has no code block marked \"tested: {name}\""));
    code.map(|(code, _)| code.to_owned()).ok_or_else(missing)
}

/// A shell in private places that runs `script` as the README's reader would, as root in a clone.
fn shell(script: &str, path: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc"]);
    command.arg(format!("{PRIVATE_PLACES}\n{script}")).current_dir(repository()).env("PATH", path);
    command
}

/// `PATH` with the folders of these parts, and of our own programs, in front.
fn path_with(parts: &[&Path]) -> String {
    let folders =
        parts.iter().filter_map(|part| part.parent()).map(|folder| folder.to_string_lossy());
    folders.map(|folder| format!("{folder}:")).collect::<String>()
        + &std::env::var("PATH").unwrap_or_default()
}

#[test]
fn the_installation_serves_cnitool() -> Outcome {
    let (Some(cnitool), Some(ip), true) =
        (require::part(Part::Cnitool)?, require::part(Part::Ip)?, require::root()?)
    else {
        return Ok(());
    };
    let host = Node::create("host")?;
    let script = block("install")? + &block("cnitool")? + &block("uninstall")?;
    // What is in the folder afterwards is what was in it before.
    let list = "mkdir -p /opt/cni/bin; ls -A /opt/cni/bin";
    let script = format!("{list} >/run/before\n{script}\n{list} | diff /run/before -\n");
    let command = shell(&script, &path_with(&[&cnitool, &ip, &bins::route_syncer()?]));
    let finished = host.netns().run(|| process::run(command, b"", DEADLINE))??;
    assert!(finished.status.success(), "{finished:#?}");
    assert!(finished.stdout.contains("10.0.1.2/24"), "{finished:#?}");
    assert!(host.rtnl()?.link_by_name("cbr0")?.is_some());
    Ok(())
}

/// A node on which one address is reserved.
const ONE_RESERVATION: &str = r#"
    mkdir -p /opt/cni/bin
    install -D -m 644 -t /etc/cni/net.d cni-conf/net.d/10-cbr0-single.conflist
    install -t /opt/cni/bin "$BUILT"
    export CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_NETNS=/none CNI_PATH=/opt/cni/bin
    echo '{"cniVersion": "1.0.0", "name": "cbr0",
           "ipam": {"type": "host-local", "subnet": "10.0.1.0/24"}}' |
        CNI_COMMAND=ADD /opt/cni/bin/host-local >/dev/null
"#;

#[test]
fn the_addresses_can_be_looked_at() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let script = ONE_RESERVATION.to_owned() + &block("addresses")?;
    let mut command = shell(&script, &path_with(&[]));
    command.env("BUILT", bins::plugin("host-local")?);
    let finished = process::run(command, b"", DEADLINE)?;
    assert!(finished.status.success() && finished.stderr.is_empty(), "{finished:#?}");
    let lines: Vec<Vec<&str>> =
        finished.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |words: &[&str]| lines.iter().any(|line| line.starts_with(words));
    assert!(has(&["cbr0", "10.0.1.2", "c1", "eth0"]), "{finished:#?}");
    let used = ["cbr0", "0", "10.0.1.1-10.0.1.254", "253", "1", "252", "10.0.1.2"];
    assert!(has(&used), "{finished:#?}");
    assert!(has(&["would", "free", "10.0.1.2", "in", "network", "cbr0:"]), "{finished:#?}");
    Ok(())
}

/// The syncer of the README, until dropped.
struct Syncer {
    shell: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Syncer {
    fn start(host: &Node) -> Result<Syncer> {
        let list = block("nodes.json")?;
        let script = format!(
            "mkdir -p /etc/cbr0; cat >/etc/cbr0/nodes.json <<'END'\n{list}END\nexec {}",
            block("syncer")?
        );
        let mut command = shell(&script, &path_with(&[&bins::route_syncer()?]));
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut shell =
            host.netns().run(|| command.spawn())?.context(|| "start a shell".to_owned())?;
        let log =
            shell.stderr.take().ok_or_else(|| LabError::Wrong("the shell has no stderr".into()))?;
        Ok(Syncer { shell, log: BufReader::new(log).lines() })
    }

    /// Reads the log up to a line with these words.
    fn says(&mut self, words: &str) -> Result<()> {
        let mut said = Vec::new();
        for line in self.log.by_ref() {
            said.push(line.context(|| "read the log".to_owned())?);
            if said.iter().any(|line| line.contains(words)) {
                return Ok(());
            }
        }
        Err(LabError::Wrong(format!(
            "the syncer ended without saying {words:?}:\n{}",
            said.join("\n")
        )))
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.shell.id() as i32);
        // It may have ended by itself; then the test has failed already.
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.shell.wait();
    }
}

#[test]
fn the_syncer_makes_the_route_of_the_picture() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let host = Node::create("node1")?;
    let uplink = Bridge { name: "eth0", mac: MacAddress([0x02, 0, 0, 0, 0, 1]), mtu: None };
    let mut rtnl = host.rtnl()?;
    rtnl.request(&uplink.create())?;
    let eth0 = rtnl.link_by_name("eth0")?.map(|link| link.index).unwrap_or_default();
    rtnl.request(&address::add(eth0, "10.100.0.2/24".parse()?, false))?;

    let mut syncer = Syncer::start(&host)?;
    syncer.says("the first sync is done")?;
    syncer.says("wrote /etc/cni/net.d/10-cbr0.conflist")?;
    let routes = rtnl.routes(route::TABLE_MAIN)?;
    let made = routes.iter().find(|route| route.destination.to_string() == "10.0.2.0/24");
    assert_eq!(made.and_then(|route| route.gateway), Some("10.100.0.3".parse()?), "{routes:?}");
    Ok(())
}
