//! containerd as a kubelet has it: sandboxes, by the Container Runtime Interface.

use std::net::IpAddr;
use std::time::Instant;

use cbr0_tests::machine::DEADLINE;
use cbr0_tests::probe::{self, Endpoint, PORT};
use cbr0_tests::require::{self, Part};
use cbr0_tests::snapshot::Shared;
use cbr0_tests::{LabError, Outcome, Result};
use kernel::NetNs;
use serde_json::{Value, json};

use crate::containerd::Containerd;
use crate::fixture::{HOST_PORT, LIMIT, ONE, address, assert_tuned, chain};

const SOCKET: &str = "unix:///run/containerd/containerd.sock";

struct Cri(Containerd);

/// A sandbox: the namespaces of a Pod, held by a container that does nothing.
struct Sandbox {
    id: String,
    netns: NetNs,
    /// The address that the kubelet is told.
    told: String,
}

impl Cri {
    fn new() -> Result<Option<Cri>> {
        let Some(crictl) = require::part(Part::Crictl)? else { return Ok(None) };
        let list = chain("net", "cbr0", ONE, None);
        let Some(containerd) = Containerd::new(&list)? else { return Ok(None) };
        let machine = &containerd.scene.machine;
        machine.install_program(&crictl)?;
        machine.run(&["ctr", "--namespace", "k8s.io", "image", "import", "/run/image.tar"])?;
        let cri = Cri(containerd);
        cri.wait_until_ready()?;
        Ok(Some(cri))
    }

    fn crictl(&self, words: &[&str]) -> Result<String> {
        let mut all = vec!["crictl", "--runtime-endpoint", SOCKET, "--timeout", "100s"];
        all.extend(words);
        self.0.scene.machine.run(&all)
    }

    /// containerd serves before this part of it does, and tells nobody: it is asked until then.
    fn wait_until_ready(&self) -> Result<()> {
        let until = Instant::now() + DEADLINE;
        loop {
            let answer = self.crictl(&["info"]);
            let ready = answer.as_deref().is_ok_and(is_ready);
            if ready || Instant::now() > until {
                return answer.map(|_| assert!(ready, "the runtime is not ready in {DEADLINE:?}"));
            }
        }
    }

    fn run(&self, name: &str, ports: &Value) -> Result<Sandbox> {
        let file = format!("/run/{name}.json");
        let conf = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "attempt": 0},
            "hostname": name, "log_directory": "/run", "port_mappings": ports, "linux": {},
            "dns_config": {"servers": ["10.96.0.10"], "searches": ["cluster.local"]},
        });
        self.0.scene.machine.write(&file, &conf.to_string())?;
        let id = self.crictl(&["runp", &file])?.trim().to_owned();
        let told: Value = parse(&self.crictl(&["inspectp", "--output", "json", &id])?)?;
        let netns = self.0.scene.machine.netns_of(&told["info"]["pid"].to_string())?;
        let told = told["status"]["network"]["ip"].as_str().unwrap_or_default().to_owned();
        Ok(Sandbox { id, netns, told })
    }

    fn stop(&self, sandbox: &Sandbox) -> Result<()> {
        self.crictl(&["stopp", &sandbox.id]).map(drop)
    }

    /// containerd calls DEL once more then, without a namespace.
    fn remove(&self, sandbox: &Sandbox) -> Result<()> {
        self.crictl(&["rmp", &sandbox.id]).map(drop)
    }
}

fn is_ready(info: &str) -> bool {
    let conditions = parse(info).map(|info| info["status"]["conditions"].clone());
    let conditions = conditions.unwrap_or_default();
    conditions.as_array().is_some_and(|all| {
        !all.is_empty() && all.iter().all(|condition| condition["status"] == json!(true))
    })
}

fn parse(answer: &str) -> Result<Value> {
    serde_json::from_str(answer).map_err(|error| LabError::Wrong(format!("{error}: {answer}")))
}

fn port() -> Value {
    // TCP is the protocol that is 0.
    json!([{"protocol": 0, "host_port": HOST_PORT, "container_port": PORT}])
}

#[test]
fn sandboxes_of_a_kubelet() -> Outcome {
    let Some(cri) = Cri::new()? else { return Ok(()) };
    let scene = &cri.0.scene;
    let warm_up = cri.run("warm-up", &port())?;
    cri.stop(&warm_up)?;
    cri.remove(&warm_up)?;
    let before = scene.snapshot()?;

    let server = cri.run("server", &port())?;
    let client = cri.run("client", &json!([]))?;
    let _endpoint = Endpoint::serve(&server.netns)?;
    let (at, from) = (address(&server.netns, ONE)?, address(&client.netns, ONE)?);
    assert_eq!((&server.told, &client.told), (&at.to_string(), &from.to_string()));
    let source = probe::call(&client.netns, at)?;
    assert_eq!((source.own, source.seen), (from, from));
    probe::call(scene.host().netns(), at)?;
    probe::call(&server.netns, IpAddr::from([127, 0, 0, 1]))?;
    scene.call_host_port()?;
    assert_tuned(&server.netns)?;
    assert_eq!(scene.limits()?, [LIMIT; 4], "of two containers, both ways");

    cri.stop(&server)?;
    scene.assert_host_port_gone();
    cri.stop(&client)?;
    scene.assert_as_before(&before, &Shared::after_warm_up())?;
    cri.remove(&server)?;
    cri.remove(&client)?;
    Ok(scene.assert_as_before(&before, &Shared::after_warm_up())?)
}

#[test]
fn a_restart_of_containerd_between_add_and_del() -> Outcome {
    let Some(mut cri) = Cri::new()? else { return Ok(()) };
    let warm_up = cri.run("warm-up", &port())?;
    cri.crictl(&["rmp", "--force", &warm_up.id])?;
    let before = cri.0.scene.snapshot()?;

    let server = cri.run("server", &port())?;
    let _endpoint = Endpoint::serve(&server.netns)?;
    cri.0.restart()?;
    cri.wait_until_ready()?;
    cri.0.scene.call_host_port()?;
    let later = cri.run("later", &json!([]))?;
    probe::call(&later.netns, address(&server.netns, ONE)?)?;

    cri.crictl(&["rmp", "--force", &server.id, &later.id])?;
    cri.0.scene.assert_host_port_gone();
    Ok(cri.0.scene.assert_as_before(&before, &Shared::after_warm_up())?)
}
