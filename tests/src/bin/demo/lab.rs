//! The network that the demo makes; `join` and `leave` find it again by what is written down.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use cbr0_tests::error::Context;
use cbr0_tests::etcd::Etcd;
use cbr0_tests::node::Node;
use cbr0_tests::pod::Pod;
use cbr0_tests::require::Part;
use cbr0_tests::syncer::Facts;
use cbr0_tests::topology::{self, DualStack, Topology, etcd_addresses};
use cbr0_tests::{LabError, Result, cluster};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::matrix::{Kind, Party};
use crate::member::{AddedPod, Member, wait_for_routes};
use crate::{Plan, names, state};

/// Where the nodes' route syncers learn of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// A file with all nodes and their Pod ranges.
    File,
    /// An etcd on the switch, where each node leases its own range.
    Etcd,
}

/// How a node behind the router is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OffLink {
    /// Through a tunnel.
    Vxlan,
}

/// The hosts that join and leave meet.
pub(crate) struct Lab {
    pub(crate) source: Source,
    pub(crate) off_link: Option<OffLink>,
    pub(crate) pods_a_node: u8,
    /// Whether Pods have IPv6 addresses, too; nodes always have.
    pub(crate) dual_stack: bool,
    pub(crate) switch: Node,
    outside: Node,
    /// In the order of their numbers.
    pub(crate) members: Vec<Member>,
}

/// The network of all Pods, in flannel's format: the ranges of DESIGN.md.
const CONFIG_KEY: &str = "/coreos.com/network/config";
const CONFIG: &str = r#"{"Network": "10.0.0.0/14", "SubnetLen": 24,
 "EnableIPv6": true, "IPv6Network": "fd00::/48"}"#;
const CONFIG_IPV4: &str = r#"{"Network": "10.0.0.0/14", "SubnetLen": 24}"#;

/// Where it is written down who is in the lab.
const RECORD: &str = "lab.json";

#[derive(Serialize, Deserialize)]
struct Record {
    source: Source,
    off_link: Option<OffLink>,
    pods_a_node: u8,
    dual_stack: bool,
    /// The Pods of each node, by its number.
    nodes: BTreeMap<u8, Vec<PodRecord>>,
}

#[derive(Serialize, Deserialize)]
struct PodRecord {
    name: String,
    addresses: Vec<IpAddr>,
    mac: String,
}

impl Lab {
    /// Makes the hosts and their wires.
    pub(crate) fn build(plan: Plan) -> Result<Self> {
        let behind = plan.off_link.map(|_| plan.nodes);
        let host = |host: &str| Node::with(host, names::create(host)?, &state::path(host));
        let Topology { switch, outside, nodes, router: _ } =
            Topology::build_with(plan.nodes, behind, host)?;
        let members = (1..).zip(nodes).map(|(number, node)| Member::new(number, node));
        let members = members.collect::<Result<_>>()?;
        let Plan { source, off_link, pods: pods_a_node, dual_stack, .. } = plan;
        Ok(Lab { source, off_link, pods_a_node, dual_stack, switch, outside, members })
    }

    /// Makes another node, which is not a member yet.
    pub(crate) fn make_node(&self) -> Result<Member> {
        let free = |number: &u8| !names::path(&topology::node_name(*number)).exists();
        let number = (1..=100).find(free).ok_or_else(|| {
            LabError::Wrong("there are 100 nodes: one must leave before another joins".to_owned())
        })?;
        let name = topology::node_name(number);
        let node = Node::with(&name, names::create(&name)?, &state::path(&name))?;
        topology::attach_node(&self.switch, &node, number)?;
        Member::new(number, node)
    }

    /// Finds the lab of a demo that was kept.
    pub(crate) fn load() -> Result<Self> {
        let file = state::path(RECORD);
        let text = fs::read_to_string(&file).context(|| format!("read {}", file.display()))?;
        let record: Record = serde_json::from_str(&text)
            .map_err(|error| LabError::Wrong(format!("{}: {error}", file.display())))?;
        let host = |name: &str| Node::with(name, names::open(name)?, &state::path(name));
        let pod = |PodRecord { name, addresses, mac }| {
            Ok(AddedPod { pod: Pod::with(&name, names::open(&name)?), addresses, mac })
        };
        let member = |(number, pods): (u8, Vec<PodRecord>)| {
            let mut member = Member::new(number, host(&topology::node_name(number))?)?;
            member.pods = pods.into_iter().map(pod).collect::<Result<_>>()?;
            Ok(member)
        };
        Ok(Lab {
            source: record.source,
            off_link: record.off_link,
            pods_a_node: record.pods_a_node,
            dual_stack: record.dual_stack,
            switch: host("switch")?,
            outside: host("outside")?,
            members: record.nodes.into_iter().map(member).collect::<Result<_>>()?,
        })
    }

    /// Writes down who is there.
    pub(crate) fn save(&self) -> Result<()> {
        let pod = |AddedPod { pod, addresses, mac }: &AddedPod| PodRecord {
            name: pod.container_id.clone(),
            addresses: addresses.clone(),
            mac: mac.clone(),
        };
        let node = |member: &Member| (member.number, member.pods.iter().map(pod).collect());
        let nodes = self.members.iter().map(node).collect();
        let Lab { source, off_link, pods_a_node, dual_stack, .. } = *self;
        let record = Record { source, off_link, pods_a_node, dual_stack, nodes };
        let text = serde_json::to_string_pretty(&record)
            .map_err(|error| LabError::Wrong(format!("{RECORD}: {error}")))?;
        state::write(RECORD, &text)
    }

    /// What the route syncers are told to learn from.
    pub(crate) fn facts(&self) -> Facts {
        match self.source {
            Source::File => Facts::File(state::path("nodes.json")),
            Source::Etcd => Facts::Etcd(format!("http://{}:2379", etcd_addresses()[0])),
        }
    }

    /// What the route syncers are told beside that.
    pub(crate) fn options(&self) -> &'static [&'static str] {
        match self.off_link {
            Some(OffLink::Vxlan) => &["--off-link", "vxlan"],
            None => &[],
        }
    }

    /// Puts a real etcd on the switch, with the configuration of the cluster in it.
    pub(crate) fn start_etcd(&self) -> Result<()> {
        let host = Node::with("etcd", names::create("etcd")?, &state::path("etcd"))?;
        topology::attach(&self.switch, &host, etcd_addresses())?;
        topology::add_way_out(&host)?;
        let etcd = Self::etcd(&host)?;
        etcd.ctl(&["put", CONFIG_KEY, if self.dual_stack { CONFIG } else { CONFIG_IPV4 }])?;
        // It would end with this value, and is to outlive even this process.
        std::mem::forget(etcd);
        Ok(())
    }

    /// Starts the etcd again that was stopped, on its data.
    pub(crate) fn run_etcd(&self) -> Result<()> {
        let host = Node::with("etcd", names::open("etcd")?, &state::path("etcd"))?;
        std::mem::forget(Self::etcd(&host)?);
        Ok(())
    }

    fn etcd(host: &Node) -> Result<Etcd> {
        let program = Part::Etcd.find().ok_or_else(|| {
            LabError::Wrong(
                "--source etcd needs etcd, which is neither in CBR0_PARTS_DIR nor in PATH: \
                 \"scripts/parts etcd\" fetches it"
                    .to_owned(),
            )
        })?;
        Etcd::start(program, host, etcd_addresses()[0])
    }

    /// Writes who is in the cluster, for the file source: the members, and who is about to join.
    pub(crate) fn write_nodes(&self, joining: Option<&Member>) -> Result<()> {
        let nodes = self.members.iter().chain(joining);
        let nodes = nodes.map(|member| (member.number, &member.node));
        let file = state::path("nodes.json");
        if self.dual_stack {
            cluster::write_nodes(&file, nodes)
        } else {
            cluster::write_nodes_ipv4(&file, nodes)
        }
    }

    /// Waits until all members, and who is about to join, have the routes to each other's Pods.
    pub(crate) fn wait_for_routes(&self, joining: Option<&Member>) -> Result<()> {
        wait_for_routes(&self.members.iter().chain(joining).collect::<Vec<_>>())
    }

    /// All Pods.
    pub(crate) fn pods(&self) -> Vec<Party<'_>> {
        self.members.iter().flat_map(Member::pod_parties).collect()
    }

    /// Everybody who calls or is called.
    pub(crate) fn parties(&self) -> Vec<Party<'_>> {
        let mut parties = self.pods();
        let nodes = self.members.iter();
        parties.extend(nodes.map(|member| party(&member.node, Kind::Node, member.addresses)));
        parties.push(party(&self.outside, Kind::Outside, topology::outside_addresses()));
        parties
    }
}

fn party(host: &Node, kind: Kind, addresses: DualStack<IpAddr>) -> Party<'_> {
    let (name, node, netns) = (host.name.clone(), addresses, host.netns());
    Party { name, kind, addresses: addresses.into(), node, netns }
}
