//! Who does IPAM: whatever CNI_PATH finds under the name. Ours is called without a process of its
//! own; any other program of that name is executed, as the specification says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::{Answer, Call};
use cbr0_tests::pod::Pod;
use cbr0_tests::probe::{Endpoint, call};
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::{Network, Runtime};
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::strace::Strace;
use cbr0_tests::{Outcome, Result, bins};
use serde_json::{Value, json};

const VERBS: [&str; 5] = ["ADD", "CHECK", "STATUS", "GC", "DEL"];

/// A host, and a folder that stands before the plugins' in CNI_PATH.
struct Scene {
    host: Node,
    pod: Pod,
}

impl Scene {
    fn new() -> Result<Self> {
        Ok(Scene { host: Node::create("host")?, pod: Pod::create("pod")? })
    }

    fn network(&self) -> Result<Network> {
        Network::from_value(&json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{
            "type": "bridge", "bridge": "cbr0", "isGateway": true,
            "ipam": {
                "type": "host-local", "subnet": "10.0.1.0/24", "dataDir": self.host.data_dir(),
            }
        }]}))
    }

    fn first_folder(&self) -> PathBuf {
        self.host.folder().join("first")
    }

    /// Puts a program into the folder that is looked at first.
    fn put(&self, name: &str, content: &[u8], mode: u32) -> Result<PathBuf> {
        let path = self.first_folder().join(name);
        fs::create_dir_all(self.first_folder())
            .and_then(|()| fs::write(&path, content))
            .and_then(|()| fs::set_permissions(&path, PermissionsExt::from_mode(mode)))
            .context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn runtime(&self) -> Result<Runtime<'_>> {
        let mut runtime = Runtime::new(&self.host, bins::plugin_dir()?);
        runtime.cni_path.insert(0, self.first_folder());
        Ok(runtime)
    }

    /// The call of the bridge for a verb, with all that this verb needs.
    fn call(&self, verb: &str, result: &Value) -> Result<Call> {
        let attached = ["ADD", "CHECK", "DEL"].contains(&verb);
        let attachment = self.pod.attachment();
        let network = self.network()?;
        let call = self.runtime()?.call(&network, 0, verb, attached.then_some(&attachment))?;
        let mut conf = json!(network.plugins[0]);
        for (key, value) in [("name", json!("net")), ("cniVersion", json!("1.1.0"))] {
            conf[key] = value;
        }
        match verb {
            "CHECK" | "DEL" => conf["prevResult"] = result.clone(),
            "GC" => {
                conf["cni.dev/valid-attachments"] =
                    json!([{"containerID": "pod", "ifname": "eth0"}]);
            }
            _ => {}
        }
        Ok(call.stdin_json(&conf))
    }

    /// Runs every verb by `run`; all must succeed.
    fn every_verb(&self, mut run: impl FnMut(&str, Call) -> Result<Answer>) -> Result<()> {
        let mut result = Value::Null;
        for verb in VERBS {
            let answer = run(verb, self.call(verb, &result)?)?;
            assert_eq!(answer.code, Some(0), "{verb}: {answer:?}");
            if verb == "ADD" {
                result = answer.json()?;
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).context(|| format!("read {}", path.display()))
}

#[test]
fn a_wrapper_of_the_name_is_executed_with_the_same_input() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let (log, input) = (scene.host.folder().join("log"), scene.host.folder().join("input"));
    let ours = bins::plugin("host-local")?;
    let script = format!(
        "#!/bin/sh\necho \"$CNI_COMMAND\" >> '{}'\ntee '{}' | '{}'\n",
        log.display(),
        input.display(),
        ours.display()
    );
    scene.put("host-local", script.as_bytes(), 0o755)?;
    scene.every_verb(|verb, call| {
        let answer = call.run(&scene.host)?;
        let conf: Value = serde_json::from_slice(&read(&input)?).unwrap_or_default();
        assert_eq!(
            conf["type"],
            json!("bridge"),
            "{verb}: the delegate reads what the bridge read"
        );
        Ok(answer)
    })?;
    let called = String::from_utf8_lossy(&read(&log)?).into_owned();
    assert_eq!(called.lines().collect::<Vec<_>>(), VERBS);
    Ok(())
}

#[test]
fn ours_is_not_executed() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let scene = Scene::new()?;
    // A copy is ours too, wherever it is.
    scene.put("host-local", &read(&bins::plugin("host-local")?)?, 0o755)?;
    let bridge = bins::plugin("bridge")?;
    scene.every_verb(|verb, call| {
        let (answer, programs) = strace.programs(call, &scene.host)?;
        assert_eq!(programs, [&*bridge], "{verb}");
        Ok(answer)
    })?;
    Ok(())
}

#[test]
fn the_reference_is_executed_and_understood() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(strace) = Strace::find()? else { return Ok(()) };
    let Some(reference) = require::part(Part::Reference)? else { return Ok(()) };
    let scene = Scene::new()?;
    let before = Snapshot::take(&scene.host)?;
    let foreign = scene.put("host-local", &read(&reference.join("host-local"))?, 0o755)?;
    let bridge = bins::plugin("bridge")?;
    scene.every_verb(|verb, call| {
        let (answer, programs) = strace.programs(call, &scene.host)?;
        assert_eq!(programs, [&*bridge, &*foreign], "{verb}");
        Ok(answer)
    })?;
    let after = Snapshot::take(&scene.host)?;
    assert_eq!(before.difference(&after, &Shared::with_bridge("cbr0")), None);
    Ok(())
}

/// What the one reserved, the other releases: they share the files.
#[test]
fn ours_and_the_reference_release_each_others_addresses() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let Some(reference) = require::part(Part::Reference)? else { return Ok(()) };
    let scene = Scene::new()?;
    let before = Snapshot::take(&scene.host)?;
    let ours = bins::plugin("host-local")?;
    let theirs = reference.join("host-local");
    for (adds, dels) in [(&ours, &theirs), (&theirs, &ours)] {
        scene.put("host-local", &read(adds)?, 0o755)?;
        let (network, attachment) = (scene.network()?, scene.pod.attachment());
        let mut runtime = scene.runtime()?;
        runtime.add(&network, &attachment)?;
        scene.put("host-local", &read(dels)?, 0o755)?;
        runtime.del(&network, &attachment)?;
        let after = Snapshot::take(&scene.host)?;
        assert_eq!(before.difference(&after, &Shared::with_bridge("cbr0")), None);
    }
    Ok(())
}

#[test]
fn a_delegates_error_is_handed_on_and_nothing_stays() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let before = [Snapshot::take(&scene.host)?, Snapshot::of(scene.pod.netns())?];
    let error = r#"{"cniVersion":"1.1.0","code":11,"msg":"no address now","details":"try later"}"#;
    let failures = [
        (format!("#!/bin/sh\necho '{error}'\nexit 1\n"), 11, "no address now"),
        ("#!/bin/sh\nexit 3\n".to_owned(), 103, "host-local"),
        ("#!/bin/sh\necho nonsense\n".to_owned(), 6, "host-local"),
        ("#!/bin/sh\nkill -9 $$\n".to_owned(), 103, "host-local"),
    ];
    for (script, code, words) in failures {
        scene.put("host-local", script.as_bytes(), 0o755)?;
        let answer = scene.call("ADD", &Value::Null)?.run(&scene.host)?;
        let error = answer.failure().filter(|error| error.code == code);
        let told = error.map(|error| format!("{} {}", error.msg, error.details));
        assert!(told.is_some_and(|told| told.contains(words)), "{script}: {answer:?}");
        let after = [Snapshot::take(&scene.host)?, Snapshot::of(scene.pod.netns())?];
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.difference(after, &Shared::after_warm_up()), None, "{script}");
        }
    }
    Ok(())
}

/// It gives an address only if the interface is there to ask for one by.
const DHCP: &str = r#"#!/bin/sh
cat >/dev/null
[ "$CNI_COMMAND" = ADD ] || exit 0
if nsenter --net="$CNI_NETNS" grep -q "^ *$CNI_IFNAME:" /proc/net/dev; then
    echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.0.1.9/24"}]}'
else
    echo '{"cniVersion": "1.1.0", "code": 11, "msg": "there is no interface"}'
    exit 1
fi
"#;

#[test]
fn dhcp_is_asked_when_the_interface_is_there() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    scene.put("dhcp", DHCP.as_bytes(), 0o755)?;
    let network = Network::from_value(&json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{
        "type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "ipam": {"type": "dhcp"},
    }]}))?;
    let before = [Snapshot::take(&scene.host)?, Snapshot::of(scene.pod.netns())?];
    let mut runtime = scene.runtime()?;
    let result = runtime.add(&network, &scene.pod.attachment())?;
    assert_eq!(result["ips"][0]["address"], json!("10.0.1.9/24"));
    assert_eq!(result["ips"][0]["gateway"], json!("10.0.1.1"));
    runtime.check(&network, &scene.pod.attachment())?;
    let gateway = std::net::IpAddr::from([10, 0, 1, 1]);
    let _serving = Endpoint::serve(scene.host.netns())?;
    assert_eq!(call(scene.pod.netns(), gateway)?.seen.to_string(), "10.0.1.9");
    runtime.del(&network, &scene.pod.attachment())?;
    let now = [Snapshot::take(&scene.host)?, Snapshot::of(scene.pod.netns())?];
    for (before, now) in before.iter().zip(&now) {
        assert_eq!(before.difference(now, &Shared::with_bridge("cbr0")), None);
    }
    Ok(())
}
