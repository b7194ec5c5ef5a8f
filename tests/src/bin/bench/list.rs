//! A list of plugins, called in the order in which a runtime does: each with the result of the one
//! before it, and for DEL from its end.

use cbr0_tests::Result;
use cbr0_tests::node::Node;
use cbr0_tests::runtime::Attachment;
use serde_json::{Value, json};

use crate::job::Job;
use crate::rival::Rival;
use crate::timing::time;

/// What networks of the bench are called.
const NETWORK: &str = "bench";

/// A plugin's type, and the keys of its configuration.
pub(crate) type Entry = (&'static str, Value);

/// The plugins of a list, of one suite.
pub(crate) struct List {
    jobs: Vec<Job>,
}

/// What a verb gave.
pub(crate) struct Done {
    /// The last result; what DEL and CHECK print is nothing.
    pub(crate) result: String,
    /// All plugins' times together.
    pub(crate) milliseconds: f64,
}

impl List {
    /// A list of these plugins.
    pub(crate) fn new(rival: &Rival, entries: Vec<Entry>) -> List {
        List { jobs: entries.into_iter().map(|entry| job(rival, entry)).collect() }
    }

    /// Attaches a container; each plugin is given the result of the one before it.
    ///
    /// # Errors
    /// A plugin cannot be run, or fails.
    pub(crate) fn add(&self, attachment: &Attachment, host: &Node) -> Result<Done> {
        let mut done = Done { result: String::new(), milliseconds: 0.0 };
        for job in &self.jobs {
            let previous = Some(done.result.as_str()).filter(|result| !result.is_empty());
            let timed = time(&job.call_with("ADD", attachment, previous), host)?;
            done.milliseconds += timed.milliseconds();
            done.result = timed.stdout;
        }
        Ok(done)
    }

    /// Checks what the ADD with this result made; the time in milliseconds.
    ///
    /// # Errors
    /// As [`List::add`].
    pub(crate) fn check(&self, attachment: &Attachment, result: &str, host: &Node) -> Result<f64> {
        let times = self.jobs.iter().map(|job| run(job, "CHECK", attachment, result, host));
        times.sum()
    }

    /// Takes a container off again, from the list's end; the time in milliseconds.
    ///
    /// # Errors
    /// As [`List::add`].
    pub(crate) fn del(&self, attachment: &Attachment, result: &str, host: &Node) -> Result<f64> {
        let times = self.jobs.iter().rev().map(|job| run(job, "DEL", attachment, result, host));
        times.sum()
    }
}

fn run(job: &Job, verb: &str, attachment: &Attachment, result: &str, host: &Node) -> Result<f64> {
    Ok(time(&job.call_with(verb, attachment, Some(result)), host)?.milliseconds())
}

/// A plugin with its configuration.
pub(crate) fn job(rival: &Rival, (plugin, keys): Entry) -> Job {
    let mut conf = json!({"cniVersion": "1.0.0", "name": NETWORK, "type": plugin});
    for (key, value) in keys.as_object().into_iter().flatten() {
        conf[key] = value.clone();
    }
    Job { suite: rival.suite.clone(), plugin, conf, floor: Vec::new() }
}

/// A bridge with a gateway, and IPv4 addresses of `10.88.0.0/16`.
pub(crate) fn bridge(host: &Node) -> Entry {
    let ranges = json!([[{"subnet": "10.88.0.0/16"}]]);
    let ipam = json!({"type": "host-local", "ranges": ranges, "dataDir": host.data_dir()});
    ("bridge", json!({"bridge": "cbr0", "isDefaultGateway": true, "ipam": ipam}))
}

/// Ports of the host that lead to the container's, from this one on.
pub(crate) fn portmap(rival: &Rival, first: u16, count: u16) -> Entry {
    let mapping = |port: u16| json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"});
    let mappings: Vec<_> = (0..count).map(|number| mapping(first + number)).collect();
    let keys = json!({"backend": rival.backend.key(), "runtimeConfig": {"portMappings": mappings}});
    ("portmap", keys)
}
