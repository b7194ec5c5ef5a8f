//! The usual list of plugins, from its first to its last.

use cbr0_tests::Result;
use cbr0_tests::node::Node;
use cbr0_tests::pod::Pod;
use serde_json::json;

use crate::filter;
use crate::list::{self, List};
use crate::record::Unit;
use crate::rival::{self, Rival};
use crate::subject::{Case, Lane, Sample, Setting, Subject};

/// How the comparison is called.
pub(crate) const TITLE: &str = "bridge + portmap + firewall + tuning";

const PLUGINS: [&str; 5] = ["bridge", "host-local", "portmap", "firewall", "tuning"];

/// The subject `chain`.
pub(crate) struct Chain;

impl Subject for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn about(&self) -> &'static str {
        "bridge, portmap, firewall and tuning in a list, as a runtime calls them, with a Pod there"
    }

    fn cases(&self, setting: &Setting) -> Vec<Case> {
        let rivals = rival::by_backend(setting, &PLUGINS);
        let title = TITLE.to_owned();
        let prepare = move || rivals.iter().map(lane).collect();
        vec![Case { title, unit: Unit::Milliseconds, prepare: Box::new(prepare) }]
    }
}

fn lane(rival: &Rival) -> Result<Lane> {
    let scene = Scene::build(rival)?;
    let turn = move || scene.turn();
    Ok(Lane { suite: rival.suite.label.clone(), turn: Box::new(turn) })
}

/// A host that lets nothing pass by itself, with a Pod that is there and one that comes and goes.
struct Scene {
    host: Node,
    list: List,
    pod: Pod,
    _resident: Pod,
}

impl Scene {
    fn build(rival: &Rival) -> Result<Scene> {
        let host = Node::create("host")?;
        // So Docker leaves a host; without such a chain there would be nothing for ours to do.
        if filter::is_there() {
            filter::run("iptables", &["-P", "FORWARD", "DROP"], "", &host)?;
        }
        let (resident, pod) = (Pod::create("resident")?, Pod::create("pod")?);
        list(rival, &host, 20_001).add(&resident.attachment(), &host)?;
        let list = list(rival, &host, 30_001);
        Ok(Scene { host, list, pod, _resident: resident })
    }

    fn turn(&self) -> Result<Vec<Sample>> {
        let (attachment, host) = (self.pod.attachment(), &self.host);
        let added = self.list.add(&attachment, host)?;
        let checked = self.list.check(&attachment, &added.result, host)?;
        let deleted = self.list.del(&attachment, &added.result, host)?;
        let sample = |what, value| Sample { what, value };
        Ok(vec![
            sample("ADD", added.milliseconds),
            sample("CHECK", checked),
            sample("DEL", deleted),
        ])
    }
}

/// The list for a Pod with two ports, from this one on.
fn list(rival: &Rival, host: &Node, first_port: u16) -> List {
    let (plugin, mut bridge) = list::bridge(host);
    bridge["ipMasq"] = json!(true);
    bridge["ipMasqBackend"] = json!(rival.backend.key());
    let settings = json!({"net.core.somaxconn": "500"});
    let data_dir = host.folder().join("tuning");
    List::new(
        rival,
        vec![
            (plugin, bridge),
            list::portmap(rival, first_port, 2),
            // The reference knows no other backend here that a host without firewalld could have.
            ("firewall", json!({"backend": "iptables"})),
            ("tuning", json!({"sysctl": settings, "dataDir": data_dir})),
        ],
    )
}
