//! Every verb, and what a call leaves.

use cbr0_tests::process;
use cbr0_tests::require::{self, Part};
use cbr0_tests::{LabError, Outcome, Result};
use cni_conf::version::SpecVersion;
use kernel::nft::{Chain, Element, Family, KeyType, Nft, Set, SetKind, Table};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

use crate::fixture::{Scene, Server, assert_closed, call, refused, tcp, tcp_at, v4};

const TABLE: Table<'static> = Table { family: Family::Inet, name: "cbr0_portmap" };

#[test]
fn add_check_and_del_twice_in_every_version() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let mut network = scene.network("net", 1, &json!({}));
    let before = scene.warm_up(&network)?;
    for version in SpecVersion::ALL {
        network.version = version.as_str().to_owned();
        let server = Server::new("server", json!([tcp(8080)]))?;
        let mut runtime = scene.runtime()?;
        let result = runtime.add(&network, &server.attachment)?;
        assert_eq!(result["cniVersion"], json!(version.as_str()));
        call(scene.topology.outside.netns(), v4(), 8080)?;
        if version >= SpecVersion::V0_4_0 {
            runtime.check(&network, &server.attachment)?;
        }
        if version >= SpecVersion::V1_1_0 {
            runtime.status(&network)?;
        }
        runtime.del(&network, &server.attachment)?;
        runtime.del(&network, &server.attachment)?;
        scene.assert_as(&before, &format!("DEL in {version}"))?;
    }
    Ok(())
}

#[test]
fn del_needs_the_attachments_names_alone() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let before = scene.warm_up(&network)?;
    let mut broken = network.clone();
    broken.plugins[1].insert("conditionsV4".into(), json!(["-m", "nonsense"]));
    for network_of_del in [&network, &broken] {
        let server = Server::new("server", json!([tcp(80), tcp_at("10.100.0.2", 81)]))?;
        scene.runtime()?.add(&network, &server.attachment)?;
        let mut named = server.attachment.without_netns();
        named.capability_args.clear();
        // A runtime that knows nothing of an earlier result.
        scene.runtime()?.del(network_of_del, &named)?;
        scene.assert_as(&before, "DEL")?;
    }
    Ok(())
}

#[test]
fn gc_takes_back_what_no_valid_attachment_has() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let other = scene.network("other", 2, &json!({}));
    let servers = [("valid", 80), ("stale", 81), ("foreign", 82)]
        .map(|(id, port)| Server::new(id, json!([tcp(port)])));
    let [valid, stale, foreign] = servers;
    let (valid, stale, foreign) = (valid?, stale?, foreign?);
    let mut runtime = scene.runtime()?;
    runtime.add(&network, &valid.attachment)?;
    runtime.add(&other, &foreign.attachment)?;
    runtime.add(&network, &stale.attachment)?;
    runtime.gc(&network, &[&valid.attachment])?;
    let outside = scene.topology.outside.netns();
    call(outside, v4(), 80)?;
    assert_closed(outside, v4(), 81);
    call(outside, v4(), 82)?;
    runtime.check(&network, &valid.attachment)?;
    Ok(())
}

#[test]
fn check_sees_what_is_lost() -> Outcome {
    type Damage = fn(&mut Nft) -> kernel::Result<()>;
    let damages: [(&str, Damage); 4] = [
        ("tcp *:80 does not lead to", |nft| {
            let any4 =
                Set { table: TABLE, name: "any4", key: KeyType::Service, kind: SetKind::Targets4 };
            nft.commit(&any4.delete_elements(&[Element::service(6, 80)]))
        }),
        ("does not lead to", |nft| {
            let chains = nft.chains(&TABLE)?;
            let record = chains.iter().find(|name| name.starts_with("att-")).unwrap();
            nft.commit(&[Chain { table: TABLE, name: record }.flush()])
        }),
        ("is not in set \"hairpin4\"", |nft| {
            let key = KeyType::PortAndIpv4;
            nft.commit(&[Set { table: TABLE, name: "hairpin4", key, kind: SetKind::Keys }.flush()])
        }),
        ("chain \"prerouting\" has lost rules", |nft| {
            nft.commit(&[Chain { table: TABLE, name: "prerouting" }.flush()])
        }),
    ];
    for (words, damage) in damages {
        let Some(scene) = Scene::new()? else { return Ok(()) };
        let network = scene.network("net", 1, &json!({}));
        let server = Server::new("server", json!([tcp(80)]))?;
        let mut runtime = scene.runtime()?;
        runtime.add(&network, &server.attachment)?;
        runtime.check(&network, &server.attachment)?;
        damage(&mut Nft::open_in(scene.node().netns())?)?;
        let error = refused(runtime.check(&network, &server.attachment));
        assert_eq!(error.code, 102, "{error}");
        assert!(error.msg.contains(words), "{words}: {error}");
        runtime.del(&network, &server.attachment)?;
    }
    Ok(())
}

#[test]
fn a_repeated_add_starts_anew() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let server = Server::new("server", json!([tcp(80), tcp_at("10.100.0.2", 81)]))?;
    let mut runtime = scene.runtime()?;
    let result = runtime.add(&network, &server.attachment)?;
    // portmap alone once more, with another port.
    let mut attachment = server.attachment.clone();
    attachment.capability_args.insert("portMappings".into(), json!([tcp(82)]));
    let mut chained = network.clone();
    chained.plugins.remove(0);
    chained.plugins[0].insert("prevResult".into(), result);
    runtime.add(&chained, &attachment)?;
    let outside = scene.topology.outside.netns();
    call(outside, v4(), 82)?;
    assert_closed(outside, v4(), 80);
    assert_closed(outside, v4(), 81);
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({}));
    let before = scene.warm_up(&network)?;
    let refused_with = |keys: &Value, mappings: Value, words: &str| -> Result<()> {
        let network = scene.network("net", 1, keys);
        let server = Server::new("server", mappings)?;
        let mut runtime = scene.runtime()?;
        let error = refused(runtime.add(&network, &server.attachment));
        assert_eq!(error.code, 7, "{error}");
        assert!(format!("{error}").contains(words), "{words}: {error}");
        runtime.del(&network, &server.attachment)?;
        scene.assert_as(&before, words)
    };
    refused_with(&json!({}), json!([tcp(0)]), "Invalid host port number: 0")?;
    refused_with(&json!({"backend": "pf"}), json!([tcp(1)]), "backend \"pf\"")?;
    refused_with(&json!({"conditionsV4": ["-m"]}), json!([tcp(1)]), "conditionsV4 \"-m\"")?;
    let mut alone = network.clone();
    alone.plugins.remove(0);
    let server = Server::new("server", json!([tcp(1)]))?;
    let error = refused(scene.runtime()?.add(&alone, &server.attachment));
    assert!(error.msg.contains("must be called as chained plugin"), "{error}");
    Ok(())
}

/// What `nft` prints, `nft` reads.
#[test]
fn the_ruleset_loads_again() -> Outcome {
    let Some(scene) = Scene::new()? else { return Ok(()) };
    let Some(nft) = require::part(Part::Nft)? else { return Ok(()) };
    let network = scene.network("net", 1, &json!({"conditionsV4": ["! -i lo"], "masqAll": true}));
    let plain = scene.network("plain", 2, &json!({}));
    let mut runtime = scene.runtime()?;
    let servers = [("one", json!([tcp(80), tcp_at("10.100.0.2", 81)])), ("two", json!([tcp(82)]))]
        .map(|(id, mappings)| Server::new(id, mappings));
    let [one, two] = servers;
    let (one, two) = (one?, two?);
    runtime.add(&network, &one.attachment)?;
    runtime.add(&plain, &two.attachment)?;
    let run = |arguments: &[&str], input: &str| -> Result<String> {
        let mut command = Command::new(&nft);
        command.args(arguments);
        let done = scene
            .node()
            .netns()
            .run(|| process::run(command, input.as_bytes(), Duration::from_secs(60)))??;
        if done.status.success() {
            return Ok(done.stdout);
        }
        Err(LabError::Wrong(format!("nft {arguments:?}: {}", done.stderr)))
    };
    let listed = run(&["list", "ruleset"], "")?;
    run(&["flush", "ruleset"], "")?;
    run(&["-f", "-"], &listed)?;
    assert_eq!(run(&["list", "ruleset"], "")?, listed);
    let outside = scene.topology.outside.netns();
    for port in [80, 81, 82] {
        call(outside, v4(), port)?;
    }
    runtime.check(&network, &one.attachment)?;
    runtime.del(&plain, &two.attachment)?;
    assert_closed(outside, v4(), 82);
    Ok(())
}
