//! A host that lets nothing pass by default, as Docker and some distributions have it.

use std::collections::BTreeSet;
use std::env;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::{Call, PluginError};
use cbr0_tests::pod::{Pod, addresses};
use cbr0_tests::probe::{Endpoint, call, call_within};
use cbr0_tests::process;
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::{LabError, Result, bins};
use kernel::link::{self, Veth, VethPeer};
use kernel::nft::Nft;
use kernel::route::Route;
use kernel::{MacAddress, NetNs, Rtnl, address, route};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);
/// For a call that must not get through: longer than one that does takes by far.
const NO_ANSWER: Duration = Duration::from_millis(400);

/// The host.
pub(crate) struct Host {
    pub(crate) node: Node,
    iptables: PathBuf,
    nft: PathBuf,
}

impl Host {
    /// A host without any rules; `None` where a part is not there.
    pub(crate) fn new() -> Result<Option<Host>> {
        if !require::nf_tables()? || !require::bridge_nf_tables()? {
            return Ok(None);
        }
        let Some(iptables) = require::part(Part::Iptables)? else { return Ok(None) };
        let Some(nft) = require::part(Part::Nft)? else { return Ok(None) };
        let node = Node::create("host")?;
        for key in ["iptables", "ip6tables"] {
            // Where the kernel has br_netfilter, it would do for the plugin what is tested.
            let key = format!("net/bridge/bridge-nf-call-{key}");
            match node.netns().run(|| kernel::sysctl::set(&key, "0"))? {
                Err(error) if error.is_absent() => {}
                set => _ = set?,
            }
        }
        Ok(Some(Host { node, iptables, nft }))
    }

    /// As [`Host::new`], and nothing passes it.
    pub(crate) fn closed() -> Result<Option<Host>> {
        let Some(host) = Host::new()? else { return Ok(None) };
        host.close()?;
        Ok(Some(host))
    }

    /// Lets nothing pass any more.
    pub(crate) fn close(&self) -> Result<()> {
        for program in ["iptables-nft", "ip6tables-nft"] {
            self.iptables(program, &["-P", "FORWARD", "DROP"])?;
        }
        Ok(())
    }

    /// Our plugins.
    pub(crate) fn ours(&self) -> Result<Runtime<'_>> {
        Ok(Runtime::new(&self.node, bins::plugin_dir()?))
    }

    /// A bridge `br<number>` and this plugin behind it, with these keys.
    pub(crate) fn network(&self, number: u8, keys: &Value) -> Network {
        let mut firewall = json!({"type": "firewall"});
        firewall.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let mut network = self.bridge(number);
        network.plugins.push(firewall.as_object().unwrap().clone());
        network
    }

    /// The bridge alone.
    pub(crate) fn bridge(&self, number: u8) -> Network {
        let ranges = json!([
            [{"subnet": format!("10.0.{number}.0/24")}],
            [{"subnet": format!("fd00:0:0:{number}::/64")}],
        ]);
        Network::from_value(&json!({
            "cniVersion": "1.1.0", "name": format!("net{number}"),
            "plugins": [{
                "type": "bridge", "bridge": format!("br{number}"), "isDefaultGateway": true,
                "ipam": {
                    "type": "host-local", "ranges": ranges, "dataDir": self.node.data_dir(),
                },
            }],
        }))
        .unwrap()
    }

    /// A call of this plugin alone, with the result of the plugins before it.
    pub(crate) fn call(
        &self,
        network: &Network,
        verb: &str,
        pod: &Pod,
        result: &Value,
    ) -> Result<Call> {
        let mut conf = network.plugins[1].clone();
        conf.insert("name".into(), json!(network.name));
        conf.insert("cniVersion".into(), json!(network.version));
        conf.insert("prevResult".into(), result.clone());
        let attachment = pod.attachment();
        let call = self.ours()?.call(network, 1, verb, Some(&attachment))?;
        Ok(call.stdin_json(&Value::Object(conf)))
    }

    /// Runs one of the iptables programs.
    pub(crate) fn iptables(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run(&self.iptables.join(program), arguments, "")
    }

    /// Gives one of the iptables programs something to read.
    pub(crate) fn restore(&self, program: &str, input: &str) -> Result<String> {
        self.run(&self.iptables.join(program), &[], input)
    }

    /// Adds what a text of `iptables-save` has, and nothing else changes.
    pub(crate) fn iptables_restore(&self, text: &str) -> Result<()> {
        self.run(&self.iptables.join("iptables-nft-restore"), &["--noflush"], text).map(drop)
    }

    /// Runs `nft`.
    pub(crate) fn nft(&self, arguments: &[&str], input: &str) -> Result<String> {
        self.run(&self.nft, arguments, input)
    }

    /// What `iptables-nft-save` and its like for IPv6 save, without counters and dates.
    pub(crate) fn saved(&self) -> Result<Vec<String>> {
        let both =
            self.iptables("iptables-nft-save", &[])? + &self.iptables("ip6tables-nft-save", &[])?;
        let lines = both.lines().filter(|line| !line.starts_with('#'));
        Ok(lines.map(|line| line.split(" [").next().unwrap_or(line).to_owned()).collect())
    }

    /// The rules of the containers, those of each family.
    pub(crate) fn pod_rules(&self) -> Result<Vec<String>> {
        let is_of_pod =
            |line: &String| line.starts_with("-A CNI-FORWARD") && line.contains("ACCEPT");
        Ok(self.saved()?.into_iter().filter(is_of_pod).collect())
    }

    /// The whole ruleset, as `nft` lists it, without counters.
    pub(crate) fn ruleset(&self) -> Result<BTreeSet<String>> {
        let listing = self.nft(&["-s", "list", "ruleset"], "")?;
        let mut table = String::new();
        let mut lines = BTreeSet::new();
        for line in listing.lines() {
            if line.starts_with("table") {
                table = line.to_owned();
            }
            lines.insert(format!("{table} {}", line.trim()));
        }
        Ok(lines)
    }

    /// The names of what attachments own, and of the chains of bridges.
    pub(crate) fn owned(&self) -> Result<Vec<String>> {
        let mut nft = Nft::open_in(self.node.netns())?;
        let mut names = Vec::new();
        for family in [kernel::nft::Family::Inet, kernel::nft::Family::Bridge] {
            let table = kernel::nft::Table { family, name: "cbr0_firewall" };
            names.extend(nft.sets(&table)?.into_iter().map(|set| set.name));
            names.extend(nft.chains(&table)?);
        }
        names.retain(|name| name.starts_with("att-") || name.starts_with("bridge-"));
        Ok(names)
    }

    /// `PATH` with `iptables` of this variant first.
    pub(crate) fn path(&self, variant: &str) -> Result<String> {
        let folder = self.node.folder().join(variant);
        std::fs::create_dir_all(&folder).context(|| format!("make {}", folder.display()))?;
        for family in ["iptables", "ip6tables"] {
            let legacy = ["legacy", "legacy-restore"].map(|rest| format!("{family}-{rest}"));
            let plain = (family.to_owned(), format!("{family}-{variant}"));
            for (name, target) in legacy.map(|name| (name.clone(), name)).into_iter().chain([plain])
            {
                let _ = std::os::unix::fs::symlink(self.iptables.join(target), folder.join(name));
            }
        }
        Ok(format!("{}:{}", folder.display(), env::var("PATH").unwrap_or_default()))
    }

    fn run(&self, program: &Path, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments);
        let run = || process::run(command, input.as_bytes(), DEADLINE);
        let done = self.node.netns().run(run)??;
        if done.status.success() {
            return Ok(done.stdout);
        }
        let name = program.display();
        Err(LabError::Wrong(format!("{name} {arguments:?}: {}{}", done.stderr, done.stdout)))
    }
}

/// A Pod that answers, and its addresses.
pub(crate) struct Answering {
    pub(crate) pod: Pod,
    pub(crate) addresses: Vec<IpAddr>,
    _endpoint: Endpoint,
}

impl Answering {
    /// Adds a Pod to a network.
    pub(crate) fn add(runtime: &mut Runtime<'_>, network: &Network, id: &str) -> Result<Self> {
        let mut answering = Answering::of(Pod::create(id)?)?;
        let result = runtime.add(network, &answering.pod.attachment())?;
        answering.addresses = addresses(&result)?;
        Ok(answering)
    }

    /// A Pod that has no address yet.
    pub(crate) fn of(pod: Pod) -> Result<Self> {
        Ok(Answering { _endpoint: Endpoint::serve(pod.netns())?, pod, addresses: Vec::new() })
    }

    /// Asserts that the other answers in both families.
    #[track_caller]
    pub(crate) fn assert_reaches(&self, other: &Answering, why: &str) {
        for address in &other.addresses {
            let source = call(self.pod.netns(), *address);
            let source = source.unwrap_or_else(|error| panic!("{why}: {address}: {error}"));
            assert_eq!(source.own, source.seen, "{why}");
        }
    }

    /// Asserts that it does not.
    #[track_caller]
    pub(crate) fn assert_does_not_reach(&self, other: &Answering, why: &str) {
        for address in &other.addresses {
            let reached = call_within(self.pod.netns(), *address, NO_ANSWER);
            assert!(reached.is_err(), "{why}: {address} answered {reached:?}");
        }
    }
}

/// A world beyond the host: 192.0.2.1 and 2001:db8::1, which knows the way back.
pub(crate) fn world(host: &Node) -> Result<NetNs> {
    let world = NetNs::create()?;
    let peer = VethPeer { namespace: &world, name: "far0", mac: None };
    let mac = MacAddress([2, 0, 0, 0, 0, 9]);
    host.rtnl()?.request(&Veth { name: "up0", mac, master: None, mtu: None, peer }.create())?;
    let mut beyond = Rtnl::open_in(&world)?;
    for (rtnl, name, last) in [(&mut host.rtnl()?, "up0", 2), (&mut beyond, "far0", 1)] {
        let index = rtnl.link_by_name(name)?.unwrap().index;
        let own = [format!("192.0.2.{last}/24"), format!("2001:db8::{last}/64")];
        let mut changes = vec![link::set_up(index)];
        changes.extend(own.iter().map(|own| address::add(index, own.parse().unwrap(), false)));
        if last == 1 {
            for (any, gateway) in [("0.0.0.0/0", "192.0.2.2"), ("::/0", "2001:db8::2")] {
                let way = Route::new(any.parse().unwrap()).via(gateway.parse().unwrap());
                changes.push(route::add(&way.dev(index)));
            }
        }
        rtnl.request_all(&changes)?;
    }
    Ok(world)
}

/// The error of a call that must fail.
#[track_caller]
pub(crate) fn refused<T>(call: Result<T>) -> PluginError {
    match call {
        Err(LabError::Plugin(failure)) => failure.error,
        Err(error) => panic!("failed, but not by the plugin: {error}"),
        Ok(_) => panic!("succeeded, but was expected to fail"),
    }
}

/// Asserts that there are the same lines; the message has those that are not.
#[track_caller]
pub(crate) fn assert_same(before: &BTreeSet<String>, now: &BTreeSet<String>, when: &str) {
    let lost: Vec<_> = before.difference(now).collect();
    let left: Vec<_> = now.difference(before).collect();
    assert!(lost.is_empty() && left.is_empty(), "{when}: lost {lost:#?}, left {left:#?}");
}
