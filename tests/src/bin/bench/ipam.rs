//! `host-local` alone: does it get slower with the addresses that are held?

use cbr0_tests::Result;
use cbr0_tests::node::Node;
use cbr0_tests::pod::Pod;
use cbr0_tests::strace::Strace;
use serde_json::json;

use crate::job::Job;
use crate::record::{Cost, Unit};
use crate::subject::{Case, Lane, Sample, Setting, Subject};
use crate::suite::Suite;
use crate::timing::time;
use crate::{costs, held};

const NETWORK: &str = "bench";
const PLUGIN: &str = "host-local";

/// The subject `ipam`.
pub(crate) struct HostLocal;

impl Subject for HostLocal {
    fn name(&self) -> &'static str {
        "ipam"
    }

    fn about(&self) -> &'static str {
        "host-local alone, by the number of addresses that are held"
    }

    fn cases(&self, setting: &Setting) -> Vec<Case> {
        let held: &[u32] = if setting.short { &[10, 1_000] } else { &[10, 1_000, 10_000, 60_000] };
        held.iter().map(|&held| case(setting, held)).collect()
    }

    fn costs(&self, setting: &Setting) -> Result<Vec<Cost>> {
        let Some(strace) = Strace::find()? else { return Ok(Vec::new()) };
        let mut counted = Vec::new();
        for held in [10, 1_000] {
            for suite in with_host_local(setting) {
                counted.extend(count(&strace, &Scene::build(suite, held)?, held)?);
            }
        }
        Ok(counted)
    }
}

fn with_host_local(setting: &Setting) -> impl Iterator<Item = &Suite> {
    setting.suites.iter().filter(|suite| suite.has(PLUGIN))
}

fn title(held: u32) -> String {
    format!("host-local, {held} addresses held")
}

fn case(setting: &Setting, held: u32) -> Case {
    let suites: Vec<Suite> = with_host_local(setting).cloned().collect();
    let prepare = move || suites.iter().map(|suite| lane(suite, held)).collect();
    Case { title: title(held), unit: Unit::Milliseconds, prepare: Box::new(prepare) }
}

fn lane(suite: &Suite, held: u32) -> Result<Lane> {
    let scene = Scene::build(suite, held)?;
    let turn = move || {
        let verb = |what| -> Result<Sample> {
            let call = scene.job.call(what, &scene.pod.attachment());
            Ok(Sample { what, value: time(&call, &scene.host)?.milliseconds() })
        };
        Ok(vec![verb("ADD")?, verb("DEL")?])
    };
    Ok(Lane { suite: suite.label.clone(), turn: Box::new(turn) })
}

/// A host whose range has these addresses held by others.
struct Scene {
    host: Node,
    job: Job,
    pod: Pod,
}

impl Scene {
    fn build(suite: &Suite, held: u32) -> Result<Scene> {
        let host = Node::create("host")?;
        let reservations = host.data_dir().join(NETWORK);
        held::hold(&reservations, held)?;
        let ranges = json!([[{"subnet": "10.88.0.0/16"}]]);
        let ipam = json!({"type": PLUGIN, "ranges": ranges, "dataDir": host.data_dir()});
        let conf = json!({"cniVersion": "1.0.0", "name": NETWORK, "type": PLUGIN, "ipam": ipam});
        let floor = vec![("FLOOR_RESERVATIONS", reservations.to_string_lossy().into_owned())];
        let job = Job { suite: suite.clone(), plugin: PLUGIN, conf, floor };
        Ok(Scene { host, job, pod: Pod::create("pod")? })
    }

    fn run(&self, verb: &str) -> Result<()> {
        time(&self.job.call(verb, &self.pod.attachment()), &self.host).map(drop)
    }
}

fn count(strace: &Strace, scene: &Scene, held: u32) -> Result<Vec<Cost>> {
    // The first call makes what later ones find.
    scene.run("ADD")?;
    scene.run("DEL")?;
    let verb = |verb, other| {
        let call = || scene.job.call(verb, &scene.pod.attachment());
        let undo = || scene.run(other);
        costs::count(strace, &scene.job, (&title(held), verb), &scene.host, call, undo)
    };
    Ok(vec![verb("ADD", "DEL")?, verb("DEL", "ADD")?])
}
