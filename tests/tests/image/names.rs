//! Names are resolved inside of the image, where no C library of a system is.

use std::fs;
use std::process::{Child, Command, Stdio};

use cbr0_tests::etcd::Etcd;
use cbr0_tests::machine::first_line;
use cbr0_tests::process::Finished;
use cbr0_tests::require::{self, Part};
use cbr0_tests::topology::Topology;
use cbr0_tests::{Outcome, Result, process};

use crate::unpacked::{DEADLINE, Image};

/// Where etcd and the name server are, and etcd's name.
const SERVER: &str = "10.100.0.1";
const NAME: &str = "etcd.cluster.example";
const LEASE: &str = r#"{"PublicIP": "10.100.0.3", "BackendType": "host-gw"}"#;

/// A name server that knows etcd. It ends with this value.
struct NameServer(Child);

impl NameServer {
    fn start(topology: &Topology) -> Result<Option<NameServer>> {
        let Some(dnsmasq) = require::part(Part::Dnsmasq)? else { return Ok(None) };
        let mut command = Command::new(dnsmasq);
        command.args(["--keep-in-foreground", "--pid-file=", "--user=root", "--log-facility=-"]);
        command.args(["--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"]);
        // What it does not know of this domain is not there.
        command.args(["--local=/example/", &format!("--host-record={NAME},{SERVER}")]);
        command.arg(format!("--listen-address={SERVER}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = topology.router.netns().run(|| command.spawn())?.unwrap();
        let mut server = NameServer(child);
        // It says that it has started once it listens.
        let line = first_line(server.0.stderr.as_mut().unwrap(), "dnsmasq")?;
        assert!(line.contains("started"), "{line}");
        Ok(Some(server))
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn etcd_is_found_by_its_name() -> Outcome {
    let Some(image) = Image::new()? else { return Ok(()) };
    let Some(etcd) = require::part(Part::Etcd)? else { return Ok(()) };
    let topology = Topology::create(2)?;
    let Some(_names) = NameServer::start(&topology)? else { return Ok(()) };
    let etcd = Etcd::start(etcd, &topology.router, SERVER.parse().unwrap())?;
    etcd.ctl(&["put", "/coreos.com/network/config", r#"{"Network": "10.0.0.0/14"}"#])?;
    etcd.ctl(&["put", "/coreos.com/network/subnets/10.0.2.0-24", LEASE])?;
    fs::create_dir(image.root().join("etc")).unwrap();
    fs::write(image.root().join("etc/resolv.conf"), format!("nameserver {SERVER}\n")).unwrap();
    fs::write(image.root().join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();

    let found = diff(&topology, &image, NAME)?;
    assert!(found.stdout.contains("10.0.2.0/24 via 10.100.0.3"), "{found:#?}");
    let unknown = diff(&topology, &image, "other.cluster.example")?;
    assert_eq!((unknown.stdout.as_str(), unknown.status.code()), ("", Some(2)), "{unknown:#?}");
    Ok(())
}

/// What the syncer of the image would change on node 1.
fn diff(topology: &Topology, image: &Image, server: &str) -> Result<Finished> {
    let endpoint = format!("http://{server}:2379");
    let words = ["/bin/route-syncer", "diff", "--source", "etcd", "--etcd-endpoints", &endpoint];
    let mut command = image.command(&words);
    command.args(["--node", "node1"]);
    topology.nodes[0].netns().run(|| process::run(command, b"", DEADLINE))?
}
