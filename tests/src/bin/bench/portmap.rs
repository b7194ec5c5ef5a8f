//! `portmap`: does it get slower with the mappings that are there?

use cbr0_tests::Result;
use cbr0_tests::node::Node;
use cbr0_tests::pod::Pod;

use crate::job::Job;
use crate::list::{self, List};
use crate::mappings;
use crate::record::Unit;
use crate::rival::{self, Rival};
use crate::subject::{Case, Lane, Sample, Setting, Subject};
use crate::timing::time;

/// Those of the Pod that comes and goes; others' are below.
const OWN_PORTS: u16 = 30_001;
const COUNT: u16 = 2;
/// How many mappings of others there are.
pub(crate) const PRESENT: [u16; 3] = [0, 1_000, 10_000];

/// The subject `portmap`.
pub(crate) struct Portmap;

impl Subject for Portmap {
    fn name(&self) -> &'static str {
        "portmap"
    }

    fn about(&self) -> &'static str {
        "portmap alone for a Pod with 2 ports, by the number of mappings that are there"
    }

    fn cases(&self, setting: &Setting) -> Vec<Case> {
        let present: &[u16] = if setting.short { &[100] } else { &PRESENT };
        let rivals = rival::by_backend(setting, &["bridge", "host-local", "portmap"]);
        present.iter().map(|&present| case(rivals.clone(), present)).collect()
    }
}

/// How the comparison with so many is called.
pub(crate) fn title(present: u16) -> String {
    format!("portmap, {COUNT} ports, {present} mappings present")
}

fn case(rivals: Vec<Rival>, present: u16) -> Case {
    let title = title(present);
    let prepare = move || rivals.iter().map(|rival| lane(rival, present)).collect();
    Case { title, unit: Unit::Milliseconds, prepare: Box::new(prepare) }
}

fn lane(rival: &Rival, present: u16) -> Result<Lane> {
    let scene = Scene::build(rival, present)?;
    let turn = move || scene.turn();
    Ok(Lane { suite: rival.suite.label.clone(), turn: Box::new(turn) })
}

/// A host with a Pod on its bridge, and the ports of others.
struct Scene {
    host: Node,
    pod: Pod,
    job: Job,
    /// What the bridge answered.
    previous: String,
}

impl Scene {
    fn build(rival: &Rival, present: u16) -> Result<Scene> {
        let (host, pod) = (Node::create("host")?, Pod::create("pod")?);
        let bridge = List::new(rival, vec![list::bridge(&host)]);
        let previous = bridge.add(&pod.attachment(), &host)?.result;
        let job = list::job(rival, list::portmap(rival, OWN_PORTS, COUNT));
        let scene = Scene { host, pod, job, previous };
        // The first call makes what the mappings of others are put into.
        scene.turn()?;
        mappings::fill(rival, &scene.host, &scene.pod, &scene.previous, present)?;
        Ok(scene)
    }

    fn turn(&self) -> Result<Vec<Sample>> {
        let attachment = self.pod.attachment();
        let verb = |what| {
            let call = self.job.call_with(what, &attachment, Some(&self.previous));
            Ok(Sample { what, value: time(&call, &self.host)?.milliseconds() })
        };
        ["ADD", "CHECK", "DEL"].into_iter().map(verb).collect()
    }
}
