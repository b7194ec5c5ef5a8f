//! deploy/cbr0.yaml on a real API server: every field is known there, and what the manifest lets the
//! daemon do is enough and no more.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use cbr0_tests::daemon::{PATIENCE, text};
use cbr0_tests::folder::FolderEvents;
use cbr0_tests::topology::node_addresses;
use cbr0_tests::{Outcome, Result};
use kernel::sysctl;
use serde_json::{Value, json};

use crate::applied::{Applied, MANIFEST, path_of};
use crate::fixture::{Lab, states};

const TWO: [&str; 2] = ["node1 own", "node2 ok"];
const THREE: [&str; 3] = ["node1 own", "node2 ok", "node3 ok"];

#[test]
fn the_api_server_knows_every_field_and_takes_the_pods() -> Outcome {
    let Some(lab) = Lab::new(1)? else { return Ok(()) };
    let applied = Applied::new(&lab)?;
    // A DaemonSet is not asked all that its Pods are.
    let mut spec = applied.daemon_set["spec"]["template"]["spec"].clone();
    spec["nodeName"] = json!("node1");
    let pod = json!({"metadata": {"name": "cbr0-x"}, "spec": spec});
    let pod = lab.server.ask("POST", path_of("kind: Pod")?, &pod)?;
    assert_eq!(pod["spec"]["priority"], json!(2_000_001_000), "{pod:#}");

    let daemon_set = MANIFEST.split("\n---\n").last().unwrap_or_default();
    let misspelt = daemon_set.replace("hostNetwork:", "hostNetwrok:");
    let refused = lab.server.create(path_of(daemon_set)?, &misspelt).unwrap_err().to_string();
    assert!(refused.contains("unknown field") && refused.contains("hostNetwrok"), "{refused}");
    Ok(())
}

#[test]
fn the_api_server_takes_what_takes_all_away() -> Outcome {
    const REMOVE: &str = include_str!("../../../deploy/cbr0-remove.yaml");
    let Some(lab) = Lab::new(1)? else { return Ok(()) };
    // No controller runs here, which would make it.
    let accounts = path_of("kind: ServiceAccount")?;
    lab.server.ask("POST", accounts, &json!({"metadata": {"name": "default"}}))?;
    let pod = lab.server.create(path_of(REMOVE)?, &REMOVE.replace("NODE", "node1"))?;
    assert_eq!(pod["spec"]["nodeName"], "node1");
    // It undoes what the daemon does, in the same folders.
    let applied = Applied::new(&lab)?;
    let folders = |spec: &Value| {
        let volumes = spec["volumes"].as_array().into_iter().flatten();
        let mut paths: Vec<_> = volumes.map(|volume| text(&volume["hostPath"]["path"])).collect();
        paths.sort();
        paths
    };
    let spec = &applied.daemon_set["spec"]["template"]["spec"];
    assert_eq!(folders(&pod["spec"]), folders(spec));
    Ok(())
}

#[test]
fn the_daemon_of_the_manifest_makes_its_node_ready() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let applied = Applied::new(&lab)?;
    // In a Pod it cannot be set: it is told until the bridge plugin, which is in none, sets it.
    forwarding(&lab, "0")?;
    let _daemon = applied.start(1)?;
    let status = lab.wait_for_rows(&TWO)?;
    assert!(setting(&status, "forwarding").contains("Read-only file system"), "{status:#}");
    forwarding(&lab, "1")?;
    lab.wait(1, "forwarding", |status| setting(status, "forwarding").is_empty())?;

    let ranges = &conflist(&applied)?["plugins"][0]["ipam"]["ranges"];
    assert_eq!(ranges[0], json!([{"subnet": "10.0.1.0/24"}]));
    for probe in ["livenessProbe", "readinessProbe"] {
        let probe = &applied.container("route-syncer")[probe]["httpGet"];
        assert_eq!(ask(&lab, probe, &applied)?, "HTTP/1.1 200 OK", "{probe}");
    }
    Ok(())
}

#[test]
fn with_ranges_of_ipv6_the_manifest_is_for_ipv6_alone() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    for number in [1, 2] {
        lab.delete(number)?;
        let range = format!("fd00:10:244:{number}::/64");
        lab.create(&format!("node{number}"), &[range], &[node_addresses(number)[1]])?;
    }
    let applied = Applied::with_ranges(&lab, "fd00:10:244::/56", "fd00:10:96::/112")?;
    let _daemon = applied.start(1)?;
    lab.wait_for_routes(&["fd00:10:244:2::/64 via fd00:100::3"])?;
    let ranges = &conflist(&applied)?["plugins"][0]["ipam"]["ranges"];
    assert_eq!(*ranges, json!([[{"subnet": "fd00:10:244:1::/64"}]]));
    Ok(())
}

/// What the daemon of node 1 writes for runtimes: soon after it has told of its routes.
fn conflist(applied: &Applied<'_>) -> Result<Value> {
    let folder = applied.folder(1, "/etc/cni/net.d");
    let changes = FolderEvents::open(&folder)?;
    let read = || Ok(fs::read_to_string(folder.join("10-cbr0.conflist")).ok());
    let text = changes.wait(PATIENCE, read)?;
    Ok(serde_json::from_str(&text.unwrap()).unwrap())
}

/// Sets whether node 1 passes packets on.
fn forwarding(lab: &Lab, value: &str) -> Result<()> {
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        lab.node(1).netns().run(|| sysctl::set(key, value))??;
    }
    Ok(())
}

/// What is told of a setting of the host.
fn setting(status: &Value, name: &str) -> String {
    let settings = status["hostSettings"].as_array().into_iter().flatten();
    let found = settings.into_iter().find(|setting| setting["name"] == name);
    found.map(|setting| text(&setting["words"])).unwrap_or_default()
}

/// The first line of the answer to a probe, as the kubelet of node 1 asks.
fn ask(lab: &Lab, probe: &Value, applied: &Applied<'_>) -> Result<String> {
    let ports = applied.container("route-syncer")["ports"].as_array().into_iter().flatten();
    let port = ports.into_iter().find(|port| port["name"] == probe["port"]).unwrap();
    let address = format!("{}:{}", text(&probe["host"]), port["containerPort"]);
    let request = format!("GET {} HTTP/1.1\r\nHost: node1\r\n\r\n", text(&probe["path"]));
    lab.node(1)
        .netns()
        .run(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer.lines().next().unwrap_or_default().to_owned()
        })
        .map_err(Into::into)
}

#[test]
fn the_cluster_role_lets_do_what_the_tests_below_need() -> Outcome {
    let Some(lab) = Lab::new(1)? else { return Ok(()) };
    let rules = json!([{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}]);
    assert_eq!(Applied::new(&lab)?.role["rules"], rules);
    Ok(())
}

#[test]
fn without_the_verb_list_no_route_is_made() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let applied = Applied::new(&lab)?;
    applied.set_verbs(&["watch"])?;
    let _daemon = applied.start(1)?;
    lab.wait_for_trouble("cannot list resource \"nodes\"")?;
    assert_eq!(lab.routes()?, [] as [&str; 0]);
    applied.set_verbs(&["list", "watch"])?;
    lab.wait_for_rows(&TWO)?;
    Ok(())
}

#[test]
fn without_the_verb_watch_a_new_node_is_not_heard_of() -> Outcome {
    let Some(lab) = Lab::new(3)? else { return Ok(()) };
    let applied = Applied::new(&lab)?;
    lab.delete(3)?;
    applied.set_verbs(&["list"])?;
    let _daemon = applied.start(1)?;
    let is_deaf = "cannot watch resource \"nodes\"";
    let status = lab.wait_for_trouble(is_deaf)?;
    assert_eq!(states(&status), TWO);
    lab.add(3)?;
    applied.set_verbs(&["list", "watch"])?;
    lab.wait_for_rows(&THREE)?;
    Ok(())
}

#[test]
fn without_a_capability_no_route_is_made() -> Outcome {
    let Some(lab) = Lab::new(2)? else { return Ok(()) };
    let applied = Applied::new(&lab)?;
    assert_eq!(applied.capabilities(), ["NET_ADMIN"]);
    let _daemon = applied.start_with(1, &[])?;
    lab.wait(1, "refused route", |status| status.to_string().contains("Operation not permitted"))?;
    assert_eq!(lab.routes()?, [] as [&str; 0]);
    Ok(())
}
