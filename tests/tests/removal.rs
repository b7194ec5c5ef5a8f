//! DEL does not wait until the kernel has forgotten the interface, and still tells the truth.

use std::fs;
use std::path::PathBuf;

use cbr0_tests::node::Node;
use cbr0_tests::plugin::{Answer, Call};
use cbr0_tests::pod::Pod;
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::{Outcome, Result, bins};
use serde_json::json;

/// The one address that the network has.
const ADDRESS: &str = "10.0.1.7";

/// A host with a network of one address, and a Pod that has it.
struct Scene {
    host: Node,
    pod: Pod,
    network: Network,
}

impl Scene {
    /// `None` when the test must end.
    fn new() -> Result<Option<Self>> {
        Self::with(false)
    }

    /// With `ipMasq`, or without.
    fn with(masquerading: bool) -> Result<Option<Self>> {
        if !require::root()? {
            return Ok(None);
        }
        let (host, pod) = (Node::create("host")?, Pod::create("pod")?);
        let ipam = json!({"type": "host-local", "dataDir": host.data_dir(), "subnet": "10.0.1.0/24", "rangeStart": ADDRESS, "rangeEnd": ADDRESS});
        let plugin = json!({"type": "bridge", "bridge": "cbr0", "isGateway": true, "ipMasq": masquerading, "ipam": ipam});
        let list = json!({"cniVersion": "1.1.0", "name": "net", "plugins": [plugin]});
        let scene = Scene { network: Network::from_value(&list)?, host, pod };
        scene.runtime()?.add(&scene.network, &scene.pod.attachment())?;
        Ok(Some(scene))
    }

    fn runtime(&self) -> Result<Runtime<'_>> {
        Ok(Runtime::new(&self.host, bins::plugin_dir()?))
    }

    fn del(&self) -> Result<Call> {
        self.runtime()?.call(&self.network, 0, "DEL", Some(&self.pod.attachment()))
    }

    /// Whether the Pod has its interface.
    fn is_attached(&self) -> Result<bool> {
        let mut inside = kernel::Rtnl::open_in(self.pod.netns())?;
        Ok(inside.link_by_name("eth0")?.is_some())
    }

    fn is_reserved(&self) -> bool {
        self.host.data_dir().join("net").join(ADDRESS).exists()
    }

    /// A DEL under these words fails, and until one has succeeded the address is the Pod's.
    fn assert_refused(&self, words: &[&str], error: &str) -> Outcome {
        let answer = self.del()?.under(words.iter().copied()).run(&self.host)?;
        let refused = failure(&answer);
        assert!(refused.contains(error), "{refused}");
        assert!(self.is_attached()? && self.is_reserved(), "{refused}");
        self.runtime()?.del(&self.network, &self.pod.attachment())?;
        assert!(!self.is_attached()? && !self.is_reserved());
        Ok(())
    }
}

fn failure(answer: &Answer) -> String {
    answer.failure().map(|error| error.to_string()).unwrap_or_default()
}

/// A scene, and `strace`.
fn observed() -> Result<Option<(Scene, PathBuf)>> {
    let Some(scene) = Scene::new()? else { return Ok(None) };
    Ok(require::part(Part::Strace)?.map(|strace| (scene, strace)))
}

/// The child does not go on from its request before all that the plugin wrote was read to its end.
/// That strace ends means that the child has ended, too.
#[test]
fn nobody_waits_for_the_child_who_reads_the_plugins_output() -> Outcome {
    let Some((scene, strace)) = observed()? else { return Ok(()) };
    let log = scene.host.folder().join("log");
    let (strace, log_path) = (strace.to_string_lossy(), log.to_string_lossy());
    let script = r#"
        "$1" 2>&1 | cat
        until read child rest <"$0"; do :; done
        while kill -CONT "$child" 2>/dev/null; do :; done"#;
    let trace = ["-f", "-qq", "-e", "trace=sendmsg", "-e", "inject=sendmsg:signal=STOP", "-o"];
    let words = [&*strace].into_iter().chain(trace).chain([&*log_path]);
    let words = words.chain(["sh", "-c", script, &*log_path]);
    let answer = scene.del()?.under(words).run(&scene.host)?;
    assert_eq!((answer.failure(), answer.stdout.as_str()), (None, ""), "{answer:?}");
    let log = fs::read_to_string(&log).unwrap_or_default();
    assert!(log.contains("sendmsg(0, "), "no child has sent anything: {log}");
    assert!(!scene.is_attached()? && !scene.is_reserved());
    Ok(())
}

/// That strace ends means that both children have ended, too.
#[test]
fn the_child_that_closes_the_packet_filters_socket_needs_no_close_range() -> Outcome {
    let Some(scene) = Scene::with(true)? else { return Ok(()) };
    let Some(strace) = require::part(Part::Strace)? else { return Ok(()) };
    let log = scene.host.folder().join("log");
    let (strace, log_path) = (strace.to_string_lossy(), log.to_string_lossy());
    let inject = "inject=close_range:error=ENOSYS";
    let words = [&*strace, "-f", "-qq", "-e", "trace=close_range,membarrier", "-e", inject, "-o"];
    let answer = scene.del()?.under(words.into_iter().chain([&*log_path])).run(&scene.host)?;
    assert_eq!(answer.failure(), None);
    let log = fs::read_to_string(&log).unwrap_or_default();
    assert_eq!((log.matches("close_range").count(), log.matches("membarrier").count()), (2, 1));
    Ok(())
}

#[test]
fn what_keeps_the_child_from_sending_is_reported_and_the_address_stays_reserved() -> Outcome {
    let Some((scene, strace)) = observed()? else { return Ok(()) };
    let inject = |what| format!("inject=sendmsg:{what}");
    let strace = strace.to_string_lossy();
    let under = |inject: &str, error| {
        let words = [&*strace, "-f", "-qq", "-o", "/dev/null", "-e", inject];
        scene.assert_refused(&words, error)
    };
    under(&inject("error=ENOBUFS"), "No buffer space available")?;
    scene.runtime()?.add(&scene.network, &scene.pod.attachment())?;
    under(&inject("signal=KILL"), "the kernel gave no answer")
}

#[test]
fn what_the_kernel_refuses_is_reported_and_the_address_stays_reserved() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let words = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    scene.assert_refused(&words, "Operation not permitted")
}

#[test]
fn where_no_process_can_be_started_del_waits_itself() -> Outcome {
    let Some((scene, strace)) = observed()? else { return Ok(()) };
    let inject = "inject=?clone,?clone3,?fork,?vfork:error=EAGAIN";
    let strace = strace.to_string_lossy();
    let words = [&*strace, "-f", "-qq", "-o", "/dev/null", "-e", inject];
    let answer = scene.del()?.under(words).run(&scene.host)?;
    assert_eq!(failure(&answer), "");
    assert!(!scene.is_attached()? && !scene.is_reserved());
    Ok(())
}

/// As a Pod that is restarted over and over: what the last DEL left to the kernel is in no ADD's way.
#[test]
fn add_and_del_a_hundred_times_with_one_name_and_one_address() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let mut runtime = scene.runtime()?;
    for _ in 0..100 {
        runtime.del(&scene.network, &scene.pod.attachment())?;
        assert!(!scene.is_attached()?);
        runtime.add(&scene.network, &scene.pod.attachment())?;
        runtime.check(&scene.network, &scene.pod.attachment())?;
    }
    Ok(())
}
