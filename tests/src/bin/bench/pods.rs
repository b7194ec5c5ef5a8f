//! Attaching Pods to a network, one at a time or many at once.

use std::path::PathBuf;

use cbr0_tests::node::Node;
use cbr0_tests::plugin::PluginError;
use cbr0_tests::pod::Pod;
use cbr0_tests::strace::Strace;
use cbr0_tests::{Result, floor};
use serde_json::{Value, json};

use crate::job::Job;
use crate::record::{Cost, Unit};
use crate::subject::{Case, Lane, Sample, Setting};
use crate::suite::Suite;
use crate::timing::{time, time_all};
use crate::{costs, crowd, held};

const NETWORK: &str = "bench";
const BRIDGE: &str = "cbr0";

/// What is done for every Pod.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// What the tables call it.
    pub(crate) title: String,
    /// The plugin's type.
    pub(crate) plugin: &'static str,
    /// Keys of its configuration besides the usual ones.
    pub(crate) keys: Value,
    /// Whether it gets an IPv6 address, too.
    pub(crate) dual_stack: bool,
    /// How many at once.
    pub(crate) at_once: usize,
    /// How many there are already, made by hand.
    pub(crate) crowd: u32,
    /// Whether there is one already that was attached in the same way.
    pub(crate) resident: bool,
}

impl Work {
    /// One Pod at a time, with an IPv4 address, on an empty host.
    pub(crate) fn plain(plugin: &'static str, title: &str) -> Work {
        Work {
            title: format!("{plugin} + host-local, {title}"),
            plugin,
            keys: json!({}),
            dual_stack: false,
            at_once: 1,
            crowd: 0,
            resident: false,
        }
    }

    /// The comparison of all that can do it.
    pub(crate) fn case(self, setting: &Setting) -> Case {
        let suites: Vec<Suite> = self.suites(setting).cloned().collect();
        let title = self.title.clone();
        let prepare = move || suites.iter().map(|suite| self.lane(suite)).collect();
        Case { title, unit: Unit::Milliseconds, prepare: Box::new(prepare) }
    }

    /// What a call of each verb costs each that can do it.
    ///
    /// # Errors
    /// A plugin fails, or the laboratory does.
    pub(crate) fn costs(&self, setting: &Setting) -> Result<Vec<Cost>> {
        let Some(strace) = Strace::find()? else { return Ok(Vec::new()) };
        let mut counted = Vec::new();
        for suite in self.suites(setting) {
            counted.extend(Scene::build(suite, self)?.count(&strace, &self.title)?);
        }
        Ok(counted)
    }

    fn suites<'a>(&self, setting: &'a Setting) -> impl Iterator<Item = &'a Suite> {
        let plugin = self.plugin;
        setting.suites.iter().filter(move |suite| suite.has(plugin))
    }

    fn lane(&self, suite: &Suite) -> Result<Lane> {
        let scene = Scene::build(suite, self)?;
        let at_once = self.at_once > 1;
        let turn = move || if at_once { scene.turn_at_once() } else { scene.turn() };
        Ok(Lane { suite: suite.label.clone(), turn: Box::new(turn) })
    }

    fn conf(&self, host: &Node) -> Value {
        let v4 = json!([{"subnet": "10.88.0.0/16"}]);
        let v6 = json!([{"subnet": "fd00:88::/64"}]);
        let ranges = if self.dual_stack { json!([v4, v6]) } else { json!([v4]) };
        let mut conf = json!({"cniVersion": "1.0.0", "name": NETWORK, "type": self.plugin});
        for (key, value) in self.keys.as_object().into_iter().flatten() {
            conf[key] = value.clone();
        }
        conf["ipam"] = json!({"type": "host-local", "ranges": ranges, "dataDir": host.data_dir()});
        conf
    }

    /// What the floor is told of it.
    fn floor(&self, host: &Node) -> Vec<(&'static str, String)> {
        let given = |yes: bool| if yes { "1".to_owned() } else { String::new() };
        vec![
            ("FLOOR_RESERVATIONS", reservations(host).to_string_lossy().into_owned()),
            ("FLOOR_DUAL_STACK", given(self.dual_stack)),
            ("FLOOR_MASQUERADE", given(self.keys["ipMasq"] == json!(true))),
        ]
    }
}

fn reservations(host: &Node) -> PathBuf {
    host.data_dir().join(NETWORK)
}

/// A host with its Pods, which have no network yet.
pub(crate) struct Scene {
    job: Job,
    pods: Vec<Pod>,
    host: Node,
    /// Those that have.
    _others: Vec<Pod>,
    _crowd: Option<Node>,
}

impl Scene {
    pub(crate) fn build(suite: &Suite, work: &Work) -> Result<Scene> {
        let host = Node::create("host")?;
        held::hold(&reservations(&host), work.crowd)?;
        if suite.is_floor() {
            floor::prepare(&host)?;
        }
        let job = Job {
            suite: suite.clone(),
            plugin: work.plugin,
            conf: work.conf(&host),
            floor: work.floor(&host),
        };
        let pods = (0..work.at_once).map(|number| Pod::create(&format!("pod{number}")));
        let mut scene = Scene {
            job,
            pods: pods.collect::<Result<_>>()?,
            host,
            _others: Vec::new(),
            _crowd: None,
        };
        // The first call makes what later ones find, the bridge too.
        scene.turn()?;
        if work.resident {
            let pod = Pod::create("resident")?;
            time(&scene.job.call("ADD", &pod.attachment()), &scene.host)?;
            scene._others.push(pod);
        }
        if work.crowd > 0 {
            scene._crowd = Some(crowd::gather(&scene.host, BRIDGE, work.crowd)?);
        }
        Ok(scene)
    }

    /// The floor makes nothing that would have to be checked.
    fn has_check(&self) -> bool {
        !self.job.suite.is_floor()
    }

    /// All verbs for one Pod.
    fn turn(&self) -> Result<Vec<Sample>> {
        let Some(pod) = self.pods.first() else { return Ok(Vec::new()) };
        let attachment = pod.attachment();
        let verb = |what, result: Option<&str>| {
            time(&self.job.call_with(what, &attachment, result), &self.host)
        };
        let sample = |what, value| Sample { what, value };
        let added = verb("ADD", None)?;
        let mut samples = vec![sample("ADD", added.milliseconds())];
        if self.has_check() {
            let checked = verb("CHECK", Some(&added.stdout))?;
            samples.push(sample("CHECK", checked.milliseconds()));
        }
        let deleted = verb("DEL", Some(&added.stdout))?;
        samples.push(sample("DEL", deleted.milliseconds()));
        Ok(samples)
    }

    /// An ADD that is run by way of `trace`, which is told how to: under the words of a program. It
    /// is undone.
    pub(crate) fn added_under<T>(
        &self,
        trace: impl Fn(&dyn Fn(Vec<String>) -> Result<()>) -> Result<T>,
    ) -> Result<T> {
        let none = || self.job.failed("ADD", "there is no Pod");
        let attachment = self.pods.first().ok_or_else(none)?.attachment();
        let run = |words: Vec<String>| {
            let answer = self.job.call("ADD", &attachment).under(words).run(&self.host)?;
            let failed = |error: PluginError| self.job.failed("ADD", &error.to_string());
            answer.failure().map(failed).map_or(Ok(()), Err)
        };
        let traced = trace(&run)?;
        time(&self.job.call("DEL", &attachment), &self.host)?;
        Ok(traced)
    }

    /// All verbs for all Pods at once: the time until the last one is done.
    fn turn_at_once(&self) -> Result<Vec<Sample>> {
        let verb = |what, results: &[String]| {
            let call = |(number, pod): (usize, &Pod)| {
                let result = results.get(number).map(String::as_str);
                self.job.call_with(what, &pod.attachment(), result)
            };
            let calls: Vec<_> = self.pods.iter().enumerate().map(call).collect();
            time_all(&calls, &self.host)
        };
        let (added, results) = verb("ADD", &[])?;
        let mut samples = vec![Sample { what: "ADD", value: added }];
        if self.has_check() {
            samples.push(Sample { what: "CHECK", value: verb("CHECK", &results)?.0 });
        }
        samples.push(Sample { what: "DEL", value: verb("DEL", &results)?.0 });
        Ok(samples)
    }

    fn count(&self, strace: &Strace, title: &str) -> Result<Vec<Cost>> {
        let Some(pod) = self.pods.first() else { return Ok(Vec::new()) };
        let attachment = pod.attachment();
        let run = |what| time(&self.job.call(what, &attachment), &self.host);
        // Whatever a call changes, the one after it changes back.
        let count = |verb, result: Option<&str>, undo: &dyn Fn() -> Result<()>| {
            let call = || self.job.call_with(verb, &attachment, result);
            costs::count(strace, &self.job, (title, verb), &self.host, call, undo)
        };
        let mut counted = vec![count("ADD", None, &|| run("DEL").map(drop))?];
        run("DEL")?;
        if self.has_check() {
            let added = run("ADD")?.stdout;
            counted.push(count("CHECK", Some(&added), &|| Ok(()))?);
        } else {
            run("ADD")?;
        }
        counted.push(count("DEL", None, &|| run("ADD").map(drop))?);
        Ok(counted)
    }
}
