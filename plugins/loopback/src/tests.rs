use std::fs;

use cni_conf::dispatch;
use cni_conf::error::Code;
use cni_conf::json::cidr;
use cni_conf::version::SpecVersion;

use super::*;

fn env(command: &str, netns: &Path) -> Env {
    Env {
        command: Some(command.to_owned()),
        container_id: "c1".to_owned(),
        netns: netns.display().to_string(),
        ifname: "lo".to_owned(),
        path: "/opt/cni/bin".to_owned(),
        ..Env::default()
    }
}

/// What the runtime would see; the error is that of the plugin.
fn run_in(env: Env, version: &str, prev_result: &str) -> Result<String, CniError> {
    let conf = format!(
        r#"{{"cniVersion": "{version}", "name": "cni-loopback", "type": "loopback", "prevResult": {prev_result}}}"#
    );
    let outcome = dispatch::run(&Loopback, env, conf.as_bytes());
    if outcome.success {
        return Ok(outcome.stdout);
    }
    Err(CniError::parse(outcome.stdout.as_bytes()).expect("an error as JSON"))
}

fn run(command: &str, ns: &NetNs) -> Result<String, CniError> {
    run_in(env(command, &ns.path()), "1.1.0", "null")
}

fn lo_is_up(ns: &NetNs) -> bool {
    lo(&mut Rtnl::open_in(ns).unwrap()).unwrap().is_up()
}

#[test]
fn add_brings_lo_up_and_names_its_addresses() {
    let ns = NetNs::create().unwrap();
    assert!(!lo_is_up(&ns));
    let answer = run("ADD", &ns).unwrap();
    assert!(lo_is_up(&ns));

    let result = CniResult::parse(&answer, SpecVersion::V1_1_0).unwrap();
    assert_eq!(
        result.interfaces,
        [Interface {
            name: "lo".to_owned(),
            mac: "00:00:00:00:00:00".to_owned(),
            sandbox: ns.path().display().to_string(),
            ..Interface::default()
        }]
    );
    let address =
        |text| IpConfig { interface: Some(0), address: cidr(text).unwrap(), gateway: None };
    assert_eq!(result.ips, [address("127.0.0.1/8"), address("::1/128")]);
}

#[test]
fn without_ipv6_there_is_no_v6_address() {
    let ns = NetNs::create().unwrap();
    ns.run(|| kernel::sysctl::set("net/ipv6/conf/all/disable_ipv6", "1")).unwrap().unwrap();
    let answer = run("ADD", &ns).unwrap();
    let result = CniResult::parse(&answer, SpecVersion::V1_1_0).unwrap();
    assert_eq!(result.ips.len(), 1);
    assert_eq!(result.ips[0].address, cidr("127.0.0.1/8").unwrap());
}

#[test]
fn add_may_be_repeated() {
    let ns = NetNs::create().unwrap();
    assert_eq!(run("ADD", &ns), run("ADD", &ns));
}

/// containerd runs it at 0.3.1; every version must do.
#[test]
fn every_version_is_served() {
    for version in SpecVersion::ALL {
        let ns = NetNs::create().unwrap();
        let answer = run_in(env("ADD", &ns.path()), version.as_str(), "null").unwrap();
        let result = CniResult::parse(&answer, version).unwrap();
        assert_eq!(result.ips.len(), 2, "{version}");
        assert_eq!(run_in(env("DEL", &ns.path()), version.as_str(), "null"), Ok(String::new()));
    }
}

#[test]
fn what_came_before_in_the_chain_is_passed_on() {
    let ns = NetNs::create().unwrap();
    let previous = r#"{
        "interfaces": [{"name": "eth0", "sandbox": "/x"}],
        "ips": [{"interface": 0, "address": "10.0.1.5/24"}],
        "dns": {"domain": "x"}
    }"#;
    let answer = run_in(env("ADD", &ns.path()), "1.0.0", previous).unwrap();
    assert!(lo_is_up(&ns));
    assert_eq!(
        CniResult::parse(&answer, SpecVersion::V1_0_0),
        CniResult::parse(previous, SpecVersion::V1_0_0)
    );
    assert_eq!(run_in(env("CHECK", &ns.path()), "1.0.0", previous), Ok(String::new()));
}

#[test]
fn a_bad_prev_result_is_refused_before_any_change() {
    let ns = NetNs::create().unwrap();
    let error = run_in(env("ADD", &ns.path()), "1.0.0", r#"{"ips": 7}"#).unwrap_err();
    assert_eq!(error.code, Code::Decode);
    assert!(!lo_is_up(&ns));
}

#[test]
fn a_lo_used_for_something_else_is_refused_before_any_change() {
    let ns = NetNs::create().unwrap();
    let mut rtnl = Rtnl::open_in(&ns).unwrap();
    let index = lo(&mut rtnl).unwrap().index;
    let foreign = cidr("10.0.1.5/24").unwrap();
    rtnl.request(&kernel::address::add(index, foreign, false)).unwrap();

    let error = run("ADD", &ns).unwrap_err();
    assert_eq!(error.code, Code::Conflict);
    let text = "loopback interface found with non-loopback address 10.0.1.5/24; remove it";
    assert!(error.to_string().contains(text), "{error}");
    assert!(!lo_is_up(&ns));
}

#[test]
fn what_failed_after_lo_came_up_is_undone() {
    let ns = NetNs::create().unwrap();
    let mut rtnl = Rtnl::open_in(&ns).unwrap();
    let before = lo(&mut rtnl).unwrap();
    rtnl.request(&set_up(before.index)).unwrap();
    let error = CniError::from(Error::NoLo);

    let was_up = lo(&mut rtnl).unwrap();
    assert_eq!(undone(&mut rtnl, &was_up, error.clone()), error);
    assert!(lo_is_up(&ns), "it was up before");
    assert_eq!(undone(&mut rtnl, &before, error.clone()), error);
    assert!(!lo_is_up(&ns));
}

#[test]
fn del_takes_lo_down_and_may_be_repeated() {
    let ns = NetNs::create().unwrap();
    run("ADD", &ns).unwrap();
    for _ in 0..2 {
        assert_eq!(run("DEL", &ns), Ok(String::new()));
        assert!(!lo_is_up(&ns));
    }
}

/// A file that is empty is what an unmounted namespace leaves under its name.
#[test]
fn del_without_a_netns_is_done() {
    let unmounted = std::env::temp_dir().join(format!("cbr0-unmounted-{}", std::process::id()));
    fs::write(&unmounted, "").unwrap();
    let answers = [Path::new(""), Path::new("/nonexistent/netns"), &unmounted]
        .map(|netns| run_in(env("DEL", netns), "0.3.1", "null"));
    fs::remove_file(&unmounted).unwrap();
    assert_eq!(answers, [const { Ok(String::new()) }; 3]);
}

#[test]
fn what_is_no_netns_is_refused() {
    let file = std::env::temp_dir().join(format!("cbr0-loopback-{}", std::process::id()));
    fs::write(&file, "no netns").unwrap();
    let errors = ["ADD", "CHECK"].map(|verb| run_in(env(verb, &file), "1.1.0", "null"));
    fs::remove_file(&file).unwrap();
    for error in errors {
        let error = error.unwrap_err();
        assert_eq!(error.code, Code::InvalidNetns);
        assert!(
            error.to_string().contains("CNI_NETNS") && error.to_string().contains("cbr0-loopback"),
            "{error}"
        );
    }
    for verb in ["ADD", "CHECK"] {
        let error = run_in(env(verb, Path::new("/nonexistent")), "1.1.0", "null").unwrap_err();
        assert_eq!(error.code, Code::InvalidNetns, "{verb}");
    }
}

/// 'The plugin's own' namespace is a throw-away one here too.
#[test]
fn the_plugin_s_own_netns_is_refused_unless_overridden() {
    let ns = NetNs::create().unwrap();
    ns.run(|| {
        let own = Path::new("/proc/thread-self/ns/net");
        for verb in ["ADD", "CHECK"] {
            let error = run_in(env(verb, own), "1.1.0", "null").unwrap_err();
            assert_eq!(error.code, Code::InvalidNetns, "{verb}");
            let text = "plugin's netns and netns from CNI_NETNS should not be the same";
            assert!(error.to_string().contains(text), "{error}");
            assert!(!lo_is_up(&ns));
        }
        // The container is gone, and its path leads to the host: nothing is left to be done.
        Rtnl::open().unwrap().request(&set_up(1)).unwrap();
        assert_eq!(run_in(env("DEL", own), "1.1.0", "null"), Ok(String::new()));
        assert!(lo_is_up(&ns));
        Rtnl::open().unwrap().request(&set_down(1)).unwrap();
        let overridden = Env { netns_override: true, ..env("ADD", own) };
        run_in(overridden, "1.1.0", "null").unwrap();
        assert!(lo_is_up(&ns));
    })
    .unwrap();
}

#[test]
fn check_says_what_is_wrong() {
    let ns = NetNs::create().unwrap();
    let error = run("CHECK", &ns).unwrap_err();
    assert_eq!(error.code, Code::CheckFailed);
    assert!(error.to_string().contains("lo of the container is down"), "{error}");

    let answer = run("ADD", &ns).unwrap();
    let check = || run_in(env("CHECK", &ns.path()), "1.1.0", &answer);
    assert_eq!(check(), Ok(String::new()));

    let mut rtnl = Rtnl::open_in(&ns).unwrap();
    let index = lo(&mut rtnl).unwrap().index;
    rtnl.request(&kernel::address::delete(index, cidr("127.0.0.1/8").unwrap())).unwrap();
    let error = check().unwrap_err();
    assert_eq!(error.code, Code::CheckFailed);
    assert!(error.to_string().contains("no address 127.0.0.1/8; ip address add"), "{error}");
}

#[test]
fn a_missing_lo_is_told() {
    let error = CniError::from(Error::NoLo);
    assert_eq!(error.code, Code::Kernel);
    assert!(
        error.to_string().contains("interface lo") && error.to_string().contains("rename it back"),
        "{error}"
    );
}

#[test]
fn gc_and_status_have_nothing_to_do() {
    for verb in ["GC", "STATUS"] {
        assert_eq!(run_in(env(verb, Path::new("")), "1.1.0", "null"), Ok(String::new()));
    }
}
