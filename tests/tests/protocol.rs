//! What every plugin binary owes its runtime before it does any work: environment, standard input,
//! versions, errors (CNI specification 1.1.0, sections 2 to 5). What is refused changes nothing.

use cbr0_tests::node::Node;
use cbr0_tests::plugin::{Answer, Call};
use cbr0_tests::pod::Pod;
use cbr0_tests::snapshot::{Shared, Snapshot};
use cbr0_tests::{Outcome, Result, bins, require};
use serde_json::{Value, json};

const PLUGINS: &[&str] = &[
    "bridge",
    "loopback",
    "host-local",
    "static",
    "ptp",
    "dummy",
    "host-device",
    "ipvlan",
    "macvlan",
    "sbr",
    "tap",
    "tuning",
    "vlan",
    "vrf",
];
const VERBS: [&str; 5] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

/// Error codes of the specification.
const INCOMPATIBLE_VERSION: u64 = 1;
const INVALID_ENVIRONMENT: u64 = 4;
const CANNOT_DECODE: u64 = 6;
const INVALID_CONFIG: u64 = 7;

/// A host with a Pod, on which calls are refused.
struct Scene {
    host: Node,
    pod: Pod,
    before: [Snapshot; 2],
}

impl Scene {
    fn new() -> Result<Self> {
        let (host, pod) = (Node::create("host")?, Pod::create("c1")?);
        let before = [Snapshot::take(&host)?, Snapshot::of(pod.netns())?];
        Ok(Scene { host, pod, before })
    }

    /// A call that would work, whatever the verb.
    fn call(&self, plugin: &str, verb: &str) -> Result<Call> {
        let call = Call::new(bins::plugin(plugin)?, verb)
            .env("CNI_CONTAINERID", "c1")
            .env("CNI_NETNS", self.pod.netns().path().to_string_lossy())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", bins::plugin_dir()?.to_string_lossy());
        Ok(call.stdin_json(&self.conf(plugin)))
    }

    fn conf(&self, plugin: &str) -> Value {
        json!({
            "cniVersion": "1.1.0",
            "name": "net",
            "type": plugin,
            "bridge": "cbr0",
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.0.1.0/24"}]],
                "dataDir": self.host.data_dir(),
            }
        })
    }

    /// Runs a call that must be refused with this code; what the plugin said.
    fn refused(&self, call: &Call, code: u64, case: &str) -> Result<String> {
        let answer = call.run(&self.host)?;
        let error = answer.failure();
        assert_eq!(answer.code, Some(1), "{case}: {answer:?}");
        let error = error.filter(|error| error.code == code && !error.msg.is_empty());
        let error = error.unwrap_or_else(|| wrong(case, code, &answer));
        self.assert_unchanged(case)?;
        Ok(format!("{} {}", error.msg, error.details))
    }

    fn assert_unchanged(&self, case: &str) -> Result<()> {
        let after = [Snapshot::take(&self.host)?, Snapshot::of(self.pod.netns())?];
        for (before, after) in self.before.iter().zip(&after) {
            if let Some(difference) = before.difference(after, &Shared::after_warm_up()) {
                wrong_state(case, &difference.to_string());
            }
        }
        Ok(())
    }
}

#[allow(clippy::panic)]
fn wrong<T>(case: &str, code: u64, answer: &Answer) -> T {
    panic!("{case}: not refused with code {code}: {answer:?}")
}

#[allow(clippy::panic)]
fn wrong_state(case: &str, difference: &str) {
    panic!("{case}: refused, but something changed:\n{difference}")
}

#[test]
fn missing_variables_are_named_all_at_once() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let attachment = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"];
    for plugin in PLUGINS.iter().copied() {
        for verb in VERBS {
            let needed = match verb {
                "ADD" | "CHECK" => &attachment[..],
                "DEL" => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
                _ => &["CNI_PATH"],
            };
            let all =
                attachment.iter().fold(scene.call(plugin, verb)?, |call, name| call.without(name));
            let said = scene.refused(
                &all,
                INVALID_ENVIRONMENT,
                &format!("{plugin} {verb} without any"),
            )?;
            for name in needed {
                assert!(said.contains(name), "{plugin} {verb} does not name {name}: {said}");
                let case = format!("{plugin} {verb} without {name}");
                let empty = scene.call(plugin, verb)?.env(name, "");
                let said = scene.refused(&empty, INVALID_ENVIRONMENT, &case)?;
                assert!(said.contains(name), "{case}: {said}");
            }
        }
    }
    Ok(())
}

#[test]
fn container_ids_and_interface_names_that_could_be_paths_are_refused() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let ids = ["../c1", "a/b", "..", ".c1", "-c1", "c 1", "c1\n", "é"];
    let ifnames = ["sixteen-letters-", ".", "..", "a/b", "a:b", "a b", "a\tb"];
    let cases = ids.map(|id| ("CNI_CONTAINERID", id));
    let cases = cases.into_iter().chain(ifnames.map(|ifname| ("CNI_IFNAME", ifname)));
    for (name, value) in cases {
        for plugin in PLUGINS.iter().copied() {
            for verb in ["ADD", "DEL", "CHECK"] {
                let call = scene.call(plugin, verb)?.env(name, value);
                scene.refused(
                    &call,
                    INVALID_ENVIRONMENT,
                    &format!("{plugin} {verb} {name}={value:?}"),
                )?;
            }
        }
    }
    Ok(())
}

#[test]
fn input_that_is_no_configuration_is_refused() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let cases: [(&[u8], u64); 12] = [
        (b"", CANNOT_DECODE),
        (b"not JSON", CANNOT_DECODE),
        (b"{\"cniVersion\": \"1.1.0\", \"name\": \"net\"", CANNOT_DECODE),
        (b"[]", CANNOT_DECODE),
        (b"\"1.1.0\"", CANNOT_DECODE),
        (b"\xff\xfe", CANNOT_DECODE),
        (b"{\"cniVersion\": 1, \"name\": \"net\"}", CANNOT_DECODE),
        (b"{\"cniVersion\": \"1.1.0\", \"name\": {}}", CANNOT_DECODE),
        (b"{\"cniVersion\": \"1.1.0\"}", INVALID_CONFIG),
        (b"{\"cniVersion\": \"1.1.0\", \"name\": \"\"}", INVALID_CONFIG),
        (b"{\"cniVersion\": \"1.1.0\", \"name\": \"../net\"}", INVALID_CONFIG),
        (b"{\"cniVersion\": \"1.1.0\", \"name\": \"a/b\"}", INVALID_CONFIG),
    ];
    for (input, code) in cases {
        for plugin in PLUGINS.iter().copied() {
            for verb in VERBS {
                let call = scene.call(plugin, verb)?.stdin(input);
                let case = format!("{plugin} {verb} with {:?}", String::from_utf8_lossy(input));
                scene.refused(&call, code, &case)?;
            }
        }
    }
    Ok(())
}

#[test]
fn versions_that_are_not_supported_are_refused() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let every: &[&str] = &VERBS;
    let cases = [
        ("9.0.0", INCOMPATIBLE_VERSION, every),
        ("1.0.1", INCOMPATIBLE_VERSION, every),
        ("0.3.1", INCOMPATIBLE_VERSION, &["CHECK", "GC", "STATUS"]),
        ("1.0.0", INCOMPATIBLE_VERSION, &["GC", "STATUS"]),
    ];
    for (version, code, verbs) in cases {
        for plugin in PLUGINS.iter().copied() {
            for verb in verbs {
                let mut conf = scene.conf(plugin);
                conf["cniVersion"] = json!(version);
                let call = scene.call(plugin, verb)?.stdin_json(&conf);
                scene.refused(&call, code, &format!("{plugin} {verb} in version {version}"))?;
            }
        }
    }
    Ok(())
}

#[test]
fn verbs_that_do_not_exist_are_refused() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    for plugin in PLUGINS.iter().copied() {
        for verb in ["UPDATE", "add", " ADD"] {
            let said = scene.refused(
                &scene.call(plugin, verb)?,
                INVALID_ENVIRONMENT,
                &format!("{plugin} {verb:?}"),
            )?;
            assert!(said.contains("unknown CNI_COMMAND"), "{said}");
        }
    }
    Ok(())
}

#[test]
fn a_network_namespace_that_is_none_is_refused() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let file = scene.host.folder().join("file");
    std::fs::write(&file, "")?;
    // The plugin's own: it would change the host and not the Pod.
    let own = scene.host.netns().path();
    for path in [file, own, "/nonexistent".into(), "/dev/null".into(), "/proc/self/ns/mnt".into()] {
        for plugin in ["bridge", "loopback"] {
            let call = scene.call(plugin, "ADD")?.env("CNI_NETNS", path.to_string_lossy());
            let answer = call.run(&scene.host)?;
            let case = format!("{plugin} ADD into {}", path.display());
            assert_eq!(answer.code, Some(1), "{case}: {answer:?}");
            assert!(answer.failure().is_some_and(|error| error.code != 0), "{case}: {answer:?}");
            scene.assert_unchanged(&case)?;
        }
    }
    Ok(())
}

#[test]
fn version_lists_every_version_of_the_specification() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    let released = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    for plugin in PLUGINS.iter().copied() {
        // A runtime may send what it likes along with it, or nothing.
        for stdin in ["", "{\"cniVersion\": \"1.0.0\"}", "not JSON"] {
            let answer =
                Call::new(bins::plugin(plugin)?, "VERSION").stdin(stdin).run(&scene.host)?;
            assert_eq!(answer.code, Some(0), "{plugin}: {answer:?}");
            let versions = answer.json()?;
            assert_eq!(versions["supportedVersions"], json!(released), "{plugin}");
            assert_eq!(versions["cniVersion"], json!("1.1.0"), "{plugin}");
        }
    }
    Ok(scene.assert_unchanged("VERSION")?)
}

#[test]
fn started_by_hand_a_plugin_says_what_it_is() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    for plugin in PLUGINS.iter().copied() {
        let answer = Call::bare(bins::plugin(plugin)?).run(&scene.host)?;
        assert_eq!(answer.code, Some(0), "{plugin}: {answer:?}");
        assert_eq!(answer.stdout, "", "{plugin}: a runtime must not take this for a result");
        assert!(
            answer.stderr.contains("CNI protocol versions supported: 0.1.0"),
            "{plugin}: {answer:?}"
        );
    }
    Ok(scene.assert_unchanged("without a verb")?)
}

#[test]
fn errors_are_whole_and_in_the_configurations_version() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new()?;
    for plugin in PLUGINS.iter().copied() {
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let mut conf = scene.conf(plugin);
            conf["cniVersion"] = json!(version);
            conf["name"] = json!("not a name");
            let answer = scene.call(plugin, "ADD")?.stdin_json(&conf).run(&scene.host)?;
            let error = answer.json()?;
            assert_eq!(error["cniVersion"], json!(version), "{plugin}: {answer:?}");
            assert_eq!(error["code"], json!(INVALID_CONFIG), "{plugin}: {answer:?}");
            assert!(
                error["msg"].is_string() && error["details"].is_string(),
                "{plugin}: {answer:?}"
            );
        }
    }
    Ok(())
}
