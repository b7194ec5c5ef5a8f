//! `sbr`.

use std::process::Command;
use std::time::Duration;

use cbr0_tests::probe::{Endpoint, call};
use cbr0_tests::process;
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::Attachment;
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{Outcome, Result};
use cni_conf::version::SpecVersion;
use kernel::route::{Route, TABLE_MAIN};
use kernel::rule::Rule;
use kernel::{NetNs, Rtnl, address, route};
use serde_json::{Value, json};

use super::fixture::Chain;

fn chain(version: &str, mut keys: Value) -> Result<Option<Chain>> {
    keys["type"] = json!("sbr");
    Chain::new(version, keys)
}

fn rules(netns: &NetNs) -> Result<Vec<Rule>> {
    Ok(Rtnl::open_in(netns)?.rules()?.by_source)
}

/// Sources and tables of the rules, those of each family in the order they were added.
fn tables(netns: &NetNs) -> Result<Vec<(String, u32)>> {
    let mut rules = rules(netns)?;
    rules.sort_by_key(|rule| (rule.source.is_ipv6(), std::cmp::Reverse(rule.priority)));
    Ok(rules.iter().map(|rule| (rule.source.to_string(), rule.table)).collect())
}

/// The routes of a table of the Pod out of `eth0`, but those that neighbours need.
fn routes(netns: &NetNs, table: u32) -> Result<Vec<String>> {
    let mut rtnl = Rtnl::open_in(netns)?;
    let link = rtnl.link_by_name("eth0")?.map(|link| link.index);
    let found = rtnl.routes(table)?.into_iter().filter(|route| route.link == link);
    let found = found.filter(|it| !it.destination.to_string().starts_with("f"));
    let show = |route: Route| match route.gateway {
        Some(gateway) => format!("{} via {gateway}", route.destination),
        None => route.destination.to_string(),
    };
    let mut found: Vec<_> = found.map(show).collect();
    found.sort();
    Ok(found)
}

fn assert_without_rules(chain: &Chain, case: &str) -> Result<()> {
    assert_eq!(rules(chain.pod.netns())?, [], "{case}");
    chain.assert_nothing_left(case)
}

#[test]
fn in_every_version_each_address_has_its_table_until_del() -> Outcome {
    for version in SpecVersion::ALL {
        let Some(chain) = chain(version.as_str(), json!({}))? else { return Ok(()) };
        let netns = chain.pod.netns();
        assert_eq!(chain.add()?, chain.previous, "{version}");
        let wanted = [("10.0.1.2".to_owned(), 100), ("fd00:0:0:1::2".to_owned(), 101)];
        assert_eq!(tables(netns)?, wanted);
        assert_eq!(routes(netns, 100)?, ["0.0.0.0/0 via 10.0.1.1", "10.0.1.0/24"]);
        assert_eq!(routes(netns, TABLE_MAIN)?, Vec::<String>::new());
        let in_101 = Rtnl::open_in(netns)?.routes(101)?;
        let ways: Vec<_> = in_101.iter().map(|route| route.destination.to_string()).collect();
        assert!(
            ways.contains(&"::/0".into()) && ways.contains(&"fd00:0:0:1::/64".into()),
            "{ways:?}"
        );
        if version >= SpecVersion::V0_4_0 {
            assert_eq!(chain.check(&chain.previous)?.failure(), None);
        }
        for turn in ["once", "twice"] {
            chain.del()?;
            assert_without_rules(&chain, &format!("DEL in {version}, {turn}"))?;
        }
        if version >= SpecVersion::V1_1_0 {
            assert_eq!(chain.status()?.failure(), None);
            chain.gc(&[])?;
        }
    }
    Ok(())
}

#[test]
fn what_is_sent_from_an_address_leaves_by_its_interface() -> Outcome {
    let Some(chain) = chain("1.1.0", json!({}))? else { return Ok(()) };
    // The Pod's other interface has the main table's default route.
    let second = Attachment { ifname: "eth1".into(), ..chain.attachment.clone() };
    chain.more(&second)?;
    let netns = chain.pod.netns();
    let mut rtnl = Rtnl::open_in(netns)?;
    let other = rtnl.link_by_name("eth1")?.unwrap().index;
    rtnl.request(&route::add(
        &Route::new("0.0.0.0/0".parse()?).via("10.0.1.1".parse()?).dev(other),
    ))?;
    chain.add()?;
    let Some(ip) = require::part(Part::Ip)? else { return Ok(()) };
    for (source, leaves_by) in [("10.0.1.2", "dev eth0"), ("10.0.1.3", "dev eth1")] {
        let mut command = Command::new(&ip);
        command.args(["route", "get", "192.0.2.1", "from", source]);
        let way = netns.run(|| process::run(command, b"", Duration::from_secs(60)))??.stdout;
        assert!(way.contains(leaves_by), "{source}: {way}");
    }
    let _host = Endpoint::serve(chain.host.netns())?;
    for gateway in ["10.0.1.1", "fd00:0:0:1::1"] {
        call(netns, gateway.parse()?)?;
    }
    Ok(())
}

#[test]
fn a_given_table_gets_a_rule_and_nothing_else() -> Outcome {
    let Some(chain) = chain("1.1.0", json!({"table": 5000}))? else { return Ok(()) };
    let netns = chain.pod.netns();
    let before = routes(netns, TABLE_MAIN)?;
    chain.add()?;
    assert_eq!(tables(netns)?.iter().map(|(_, table)| *table).collect::<Vec<_>>(), [5000, 5000]);
    assert_eq!((routes(netns, TABLE_MAIN)?, routes(netns, 5000)?), (before, vec![]));
    assert_eq!(chain.check(&chain.previous)?.failure(), None);
    let link = chain.link()?.index;
    let way = Route { table: 5000, ..Route::new("10.7.0.0/16".parse()?).dev(link) };
    Rtnl::open_in(netns)?.request(&route::add(&way))?;
    chain.del()?;
    assert_eq!(rules(netns)?, []);
    assert_eq!(routes(netns, 5000)?, ["10.7.0.0/16"]);
    Ok(())
}

#[test]
fn gateways_and_source_hints_are_as_asked() -> Outcome {
    let keys = json!({"gateways": ["10.0.1.9"], "addSourceHints": true});
    let Some(chain) = chain("1.1.0", keys)? else { return Ok(()) };
    chain.add()?;
    let netns = chain.pod.netns();
    assert_eq!(routes(netns, 100)?, ["0.0.0.0/0 via 10.0.1.9", "10.0.1.0/24"]);
    let found = Rtnl::open_in(netns)?.routes(100)?;
    assert!(
        found.iter().all(|route| route.source == Some("10.0.1.2".parse().unwrap())),
        "{found:?}"
    );
    assert_eq!(chain.check(&chain.previous)?.failure(), None);
    chain.del()?;
    assert_without_rules(&chain, "DEL")?;
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() -> Outcome {
    for (keys, code, words) in [
        (json!({"table": 0}), 7, "table \"0\""),
        (json!({"table": -1}), 6, "table"),
        (json!({"gateways": ["10.0.1.1", "10.0.1.2"]}), 7, "second of its family"),
    ] {
        let Some(chain) = chain("1.1.0", keys)? else { return Ok(()) };
        let error = chain.call("ADD")?.run(&chain.host)?.failure().unwrap();
        assert!(error.code == code && error.to_string().contains(words), "{words}: {error}");
        assert_without_rules(&chain, words)?;
    }
    let Some(chain) = chain("1.1.0", json!({"gateways": ["192.0.2.1"]}))? else { return Ok(()) };
    let error = chain.call("ADD")?.run(&chain.host)?.failure().unwrap();
    assert_eq!(error.code, 100, "{error}");
    assert_without_rules(&chain, "a gateway that cannot be reached")?;
    let bare = json!({"cniVersion": "1.1.0", "ips": []});
    let answer = chain.call_with("ADD", &chain.attachment, &bare)?.run(&chain.host)?;
    assert!(answer.failure().unwrap().msg.contains("No IP addresses supplied on interface: eth0"));
    Ok(())
}

#[test]
fn del_needs_no_namespace_no_result_and_no_sound_configuration() -> Outcome {
    let Some(mut chain) = chain("1.1.0", json!({}))? else { return Ok(()) };
    chain.del_by_triple()?;
    let dead = Attachment { netns: "/no/netns".into(), ..chain.attachment.clone() };
    for attachment in [&dead, &chain.attachment.without_netns()] {
        let answer = chain.call_with("DEL", attachment, &Value::Null)?.run(&chain.host)?;
        assert_eq!(answer.failure(), None);
    }
    chain.add()?;
    chain.conf["table"] = json!("nonsense");
    let answer = chain.call_with("DEL", &chain.attachment, &Value::Null)?.run(&chain.host)?;
    assert_eq!(answer.failure(), None);
    assert_without_rules(&chain, "DEL with a broken configuration")?;

    // The interface is gone before, and its addresses with it.
    chain.conf["table"] = Value::Null;
    chain.add()?;
    let link = chain.link()?.index;
    let netns = chain.pod.netns();
    Rtnl::open_in(netns)?.request(&kernel::link::delete(link))?;
    assert_eq!(rules(netns)?.len(), 2);
    chain.del()?;
    assert_eq!(rules(netns)?, []);
    Ok(())
}

#[test]
fn rules_of_others_stay_and_interfaces_are_independent() -> Outcome {
    let Some(chain) = chain("1.1.0", json!({}))? else { return Ok(()) };
    let netns = chain.pod.netns();
    let own = Rule { source: "10.0.1.2".parse()?, table: 100, protocol: 3, priority: Some(5) };
    Rtnl::open_in(netns)?.request(&kernel::rule::add(&own))?;
    let second = Attachment { ifname: "eth1".into(), ..chain.attachment.clone() };
    let result = chain.more(&second)?;
    chain.add()?;
    let answer = chain.call_with("ADD", &second, &result)?.run(&chain.host)?;
    assert_eq!(answer.failure(), None);
    let taken: Vec<_> = tables(netns)?.into_iter().map(|(_, table)| table).collect();
    assert_eq!(taken, [100, 101, 103, 102, 104], "the table of another's rule is taken");
    chain.del()?;
    let left: Vec<_> = tables(netns)?.into_iter().map(|(source, _)| source).collect();
    assert_eq!(left, ["10.0.1.2", "10.0.1.3", "fd00:0:0:1::3"]);
    let check = chain.call_with("CHECK", &second, &result)?.run(&chain.host)?;
    assert_eq!(check.failure(), None);
    Ok(())
}

#[test]
fn check_misses_a_rule_and_a_way_out() -> Outcome {
    let Some(chain) = chain("1.1.0", json!({}))? else { return Ok(()) };
    chain.add()?;
    let mut rtnl = Rtnl::open_in(chain.pod.netns())?;
    let [first, ..] = rtnl.rules()?.by_source[..] else { panic!("no rules") };
    let way = rtnl.routes(101)?.into_iter().find(|route| route.destination.prefix() == 0).unwrap();
    rtnl.request(&route::delete(&way))?;
    let error = chain.check(&chain.previous)?.failure().unwrap();
    assert!(error.code == 102 && error.msg.contains("table 101"), "{error}");
    rtnl.request(&route::add(&way))?;
    rtnl.request(&kernel::rule::delete(&first))?;
    let error = chain.check(&chain.previous)?.failure().unwrap();
    assert!(error.code == 102 && error.msg.contains(&first.source.to_string()), "{error}");
    Ok(())
}

#[test]
fn either_suite_removes_what_the_other_has_made() -> Outcome {
    let Some(reference) = require::part(Part::Reference)? else { return Ok(()) };
    let ours = cbr0_tests::bins::plugin_dir()?;
    for (from, to) in [(&reference, &ours), (&ours, &reference)] {
        let Some(chain) = chain("1.1.0", json!({}))? else { return Ok(()) };
        let mut conf = chain.conf.clone();
        conf["prevResult"] = chain.previous.clone();
        for (folder, verb, left) in [(from, "ADD", 2), (to, "CHECK", 2), (to, "DEL", 0)] {
            let answer = chain.call_of(folder, verb, &chain.attachment, &conf)?.run(&chain.host)?;
            assert_eq!(answer.failure(), None, "{verb} by {}", folder.display());
            assert_eq!(rules(chain.pod.netns())?.len(), left, "{verb} by {}", folder.display());
        }
    }
    Ok(())
}

/// Two interfaces of one container at once: the lock keeps their tables apart.
#[test]
fn interfaces_that_come_at_once_have_tables_of_their_own() -> Outcome {
    let Some(chain) = chain("1.1.0", json!({}))? else { return Ok(()) };
    let others: Vec<_> = (1..8)
        .map(|number| {
            let ifname = format!("eth{number}");
            let attachment = Attachment { ifname, ..chain.attachment.clone() };
            let result = chain.more(&attachment)?;
            Ok((attachment, result))
        })
        .collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let calls = others.iter().map(|(attachment, result)| {
            let chain = &chain;
            scope.spawn(move || chain.call_with("ADD", attachment, result)?.run(&chain.host))
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.join().unwrap()?.failure(), None);
        }
        Ok::<_, cbr0_tests::LabError>(())
    })?;
    let mut taken: Vec<_> = rules(chain.pod.netns())?.iter().map(|rule| rule.table).collect();
    taken.sort_unstable();
    assert_eq!(taken, (100..114).collect::<Vec<_>>());
    Ok(())
}

fn for_each(
    syscalls: &[Syscall],
    case: impl Fn(&Syscall, &Chain) -> Result<()> + Sync,
) -> Result<()> {
    strace::for_each(syscalls, |syscall| {
        let chain = chain("1.1.0", json!({}))?;
        chain.as_ref().map_or(Ok(()), |chain| case(syscall, chain))
    })
}

fn syscalls_of_add() -> Result<Option<(Strace, Vec<Syscall>)>> {
    let Some(strace) = Strace::find()? else { return Ok(None) };
    let Some(chain) = chain("1.1.0", json!({}))? else { return Ok(None) };
    let (answer, syscalls) = strace.syscalls(chain.call("ADD")?, &chain.host)?;
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(syscalls.len() > 30, "strace saw only {syscalls:?}");
    Ok(Some((strace, syscalls)))
}

#[test]
fn killed_at_any_system_call_del_or_another_add_finds_all() -> Outcome {
    let Some((strace, syscalls)) = syscalls_of_add()? else { return Ok(()) };
    for_each(&syscalls, |syscall, chain| {
        let case = format!("killed at {} number {}", syscall.name, syscall.turn);
        strace.kill_at(syscall, chain.call("ADD")?, &chain.host)?;
        chain.del()?;
        assert_without_rules(chain, &case)?;
        strace.kill_at(syscall, chain.call("ADD")?, &chain.host)?;
        chain.add()?;
        assert_eq!(rules(chain.pod.netns())?.len(), 2, "{case}");
        assert_eq!(chain.check(&chain.previous)?.failure(), None, "{case}");
        strace.kill_at(syscall, chain.call("DEL")?, &chain.host)?;
        chain.del()?;
        assert_without_rules(chain, &format!("{case}, then ADD, DEL killed, DEL"))
    })?;
    Ok(())
}

#[test]
fn failing_at_any_system_call_leaves_nothing() -> Outcome {
    let Some((strace, mut syscalls)) = syscalls_of_add()? else { return Ok(()) };
    let asks = ["openat", "open", "sendto", "sendmsg", "socket", "bind", "flock"];
    syscalls.retain(|syscall| match syscall.name.as_str() {
        "setns" => syscall.turn % 2 == 1,
        name => asks.contains(&name),
    });
    for_each(&syscalls, |syscall, chain| {
        let case = format!("failed at {} number {}", syscall.name, syscall.turn);
        let answer = strace.fail_at(syscall, "ENOMEM", chain.call("ADD")?, &chain.host)?;
        match answer.failure() {
            Some(error) => assert_ne!(error.code, 0, "{case}: {answer:?}"),
            None => chain.del()?,
        }
        assert_without_rules(chain, &case)
    })?;
    Ok(())
}

/// A Pod's address that is in no result is none of the plugin's.
#[test]
fn other_addresses_of_the_interface_are_left_alone() -> Outcome {
    let Some(chain) = chain("1.1.0", json!({}))? else { return Ok(()) };
    let link = chain.link()?.index;
    let mut rtnl = Rtnl::open_in(chain.pod.netns())?;
    rtnl.request(&address::add(link, "192.0.2.7/24".parse()?, false))?;
    chain.add()?;
    assert_eq!(routes(chain.pod.netns(), TABLE_MAIN)?, ["192.0.2.0/24"]);
    Ok(())
}
