//! `tuning`: the interface and the namespace are as asked for, and the interface is restored.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use cbr0_tests::require::{self, Part};
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{Outcome, Result, bins};
use cni_conf::version::SpecVersion;
use kernel::link as links;
use kernel::{MacAddress, NetNs, Rtnl};
use serde_json::{Value, json};

use crate::fixture::{Chain, assert_refused, names, succeeded};

const MAC: &str = "02:00:00:00:00:99";
const VERSION: &str = "1.1.0";

/// A configuration with each key of the link and with settings below it.
fn conf() -> Value {
    json!({
        "type": "tuning",
        "mac": MAC, "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 321,
        "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1", "net/ipv4/conf/IFNAME/log_martians": "1"},
    })
}

/// A Pod that is to be tuned so, with the backups in the folder that snapshots show.
fn chain(version: &str, conf: Value) -> Result<Option<Chain>> {
    let Some(mut chain) = Chain::new(version, conf)? else { return Ok(None) };
    chain.conf["dataDir"] = json!(data_dir(&chain));
    Ok(Some(chain))
}

fn data_dir(chain: &Chain) -> PathBuf {
    chain.host.data_dir().join("tuning")
}

/// The settings of the Pod's interface back to what they are by default, which DEL leaves alone.
fn reset_sysctls(chain: &Chain) -> Result<()> {
    for key in ["arp_filter", "log_martians"] {
        let key = format!("net/ipv4/conf/eth0/{key}");
        chain.pod.netns().run(|| kernel::sysctl::set(&key, "0"))??;
    }
    Ok(())
}

/// Asserts that DEL, or the ADD that failed, has undone all but the settings.
fn assert_restored(chain: &Chain, case: &str) -> Result<()> {
    reset_sysctls(chain)?;
    chain.assert_nothing_left(case)?;
    // Of a veth; snapshots do not have it.
    assert_eq!(chain.link()?.transmit_queue, 1000, "{case}");
    assert!(names(&data_dir(chain))?.is_empty(), "{case}");
    Ok(())
}

fn assert_tuned(chain: &Chain, case: &str) -> Result<()> {
    let link = chain.link()?;
    assert_eq!(link.mac.unwrap().to_string(), MAC, "{case}");
    assert_eq!((link.mtu, link.transmit_queue), (1400, 321), "{case}");
    assert!(link.is_promiscuous() && link.is_all_multicast(), "{case}");
    assert_eq!(chain.sysctl("net/ipv4/conf/eth0/arp_filter")?, "1", "{case}");
    assert_eq!(chain.sysctl("net/ipv4/conf/eth0/log_martians")?, "1", "{case}");
    Ok(())
}

#[test]
fn in_every_version_all_is_set_checked_and_restored() -> Outcome {
    for version in SpecVersion::ALL {
        let Some(chain) = chain(version.as_str(), conf())? else { return Ok(()) };
        let result = chain.add()?;
        assert_tuned(&chain, version.as_str())?;
        assert_eq!(result["ips"], chain.previous["ips"]);
        assert_eq!(result["ip4"], chain.previous["ip4"]);
        if version >= SpecVersion::V0_3_0 {
            assert_eq!(result["interfaces"][2]["mac"], json!(MAC));
            assert_eq!(result["interfaces"][1], chain.previous["interfaces"][1]);
        }
        let mtu = (version >= SpecVersion::V1_1_0).then(|| json!(1400));
        assert_eq!(result["interfaces"][2].get("mtu"), mtu.as_ref());
        if version >= SpecVersion::V0_4_0 {
            succeeded(chain.check(&result)?)?;
        }
        assert_eq!(names(&data_dir(&chain))?, ["pod_eth0.json"]);
        chain.del()?;
        chain.del()?;
        chain.del_by_triple()?;
        assert_restored(&chain, version.as_str())?;
    }
    Ok(())
}

#[test]
fn del_needs_no_namespace_and_no_sound_configuration() -> Outcome {
    let gone = NetNs::create()?;
    let dead = gone.path().to_string_lossy().into_owned();
    drop(gone);
    for netns in ["", &dead, "/proc/self/ns/net", "/dev/null"] {
        let Some(mut chain) = chain(VERSION, conf())? else { return Ok(()) };
        chain.add()?;
        for (key, value) in [("sysctl", json!(7)), ("mtu", json!("x")), ("mac", json!("x"))] {
            chain.conf[key] = value;
        }
        chain.attachment.netns = netns.to_owned();
        for _ in 0..2 {
            let call = chain.call_with("DEL", &chain.attachment, &Value::Null)?;
            succeeded(call.run(&chain.host)?)?;
            assert!(names(&data_dir(&chain))?.is_empty(), "{netns:?}");
        }
        chain.conf["dataDir"] = json!(7);
        chain.del_by_triple()?;
    }
    Ok(())
}

#[test]
fn del_restores_the_link_that_was_tuned_and_no_other_of_its_name() -> Outcome {
    let Some(chain) = chain(VERSION, json!({"type": "tuning", "mtu": 1400}))? else {
        return Ok(());
    };
    chain.add()?;
    let mut rtnl = Rtnl::open_in(chain.pod.netns())?;
    rtnl.request(&links::delete(chain.link()?.index))?;
    let mac = MacAddress([2, 0, 0, 0, 0, 7]);
    rtnl.request(&links::Bridge { name: "eth0", mac, mtu: Some(1300) }.create())?;
    chain.del()?;
    assert_eq!(chain.link()?.mtu, 1300);
    assert!(names(&data_dir(&chain))?.is_empty());
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_before_any_change() -> Outcome {
    let sysctl = |key: &str, value: &str| json!({"sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1", key: value}});
    for (keys, code, words) in [
        (sysctl("net.ipv4.no_such_setting", "1"), 7, "no_such_setting"),
        (sysctl("net.ipv4.conf.eth1.arp_filter", "1"), 7, "eth1/arp_filter"),
        (sysctl("net/../kernel/hostname", "x"), 7, "invalid net sysctl key"),
        (sysctl("kernel.hostname", "x"), 7, "invalid net sysctl key"),
        (sysctl("net/ipv4/conf/eth0/arp_filter", "1"), 7, "duplicated sysctl keys"),
        (sysctl("net.ipv4.conf", "1"), 7, "net/ipv4/conf"),
        (json!({"mtu": 10}), 7, "mtu 10"),
        (json!({"txQLen": -1}), 7, "txQLen -1"),
        (json!({"mac": "nonsense"}), 7, "nonsense"),
        (json!({"sysctl": [7]}), 6, "sysctl"),
        (json!({"dataDir": "relative"}), 7, "dataDir"),
    ] {
        let Some(mut chain) = chain(VERSION, conf())? else { return Ok(()) };
        for (key, value) in keys.as_object().unwrap() {
            chain.conf[key] = value.clone();
        }
        assert_refused(&chain.call("ADD")?.run(&chain.host)?, code, words);
        chain.assert_nothing_left(words)?;
    }
    Ok(())
}

#[test]
fn without_a_previous_result_or_an_interface_nothing_is_tuned() -> Outcome {
    let Some(chain) = chain(VERSION, conf())? else { return Ok(()) };
    let alone = chain.call_with("ADD", &chain.attachment, &Value::Null)?.run(&chain.host)?;
    assert_refused(&alone, 7, "must be called as chained plugin");
    let mut other = chain.attachment.clone();
    other.ifname = "eth7".into();
    let absent = chain.call_with("ADD", &other, &chain.previous)?.run(&chain.host)?;
    assert_refused(&absent, 4, "eth7");
    Ok(chain.assert_nothing_left("nothing to tune")?)
}

/// The kernel takes no such value, which only writing it tells.
#[test]
fn a_value_that_the_kernel_refuses_undoes_the_add() -> Outcome {
    let Some(mut chain) = chain(VERSION, conf())? else { return Ok(()) };
    chain.conf["sysctl"]["net.ipv4.conf.IFNAME.rp_filter"] = json!("banana");
    assert_refused(&chain.call("ADD")?.run(&chain.host)?, 100, "rp_filter");
    chain.assert_nothing_left("a wrong value")?;
    assert!(names(&data_dir(&chain))?.is_empty());
    Ok(())
}

#[test]
fn the_allowlist_is_the_administrators_word() -> Outcome {
    let list = "^net\\.ipv4\\.conf\\.IFNAME\\.arp_[a-z]*$";
    let Some(mut chain) = chain(VERSION, conf())? else { return Ok(()) };
    let under = |list: &str| {
        // A private /etc, so that the machine's own is never touched.
        let script = format!(
            "mount -t tmpfs none /etc && mkdir -p /etc/cni/tuning && \
             printf '%s\\n' '{list}' > /etc/cni/tuning/allowlist.conf && exec \"$@\""
        );
        ["unshare", "-m", "sh", "-c", &script, "sh"].map(str::to_owned)
    };
    let refused = chain.call("ADD")?.under(under(list)).run(&chain.host)?;
    let error = assert_refused(&refused, 7, "is not allowed");
    assert!(error.msg.contains("log_martians") && error.msg.contains("arp_[a-z]"), "{error}");
    chain.assert_nothing_left("a sysctl that is not allowed")?;
    let broken = chain.call("ADD")?.under(under("net.(")).run(&chain.host)?;
    assert_refused(&broken, 7, "is no regular expression");
    chain.conf["sysctl"] = json!({"net.ipv4.conf.IFNAME.arp_filter": "1"});
    succeeded(chain.call("ADD")?.under(under(list)).run(&chain.host)?)?;
    assert_eq!(chain.sysctl("net/ipv4/conf/eth0/arp_filter")?, "1");
    Ok(())
}

#[test]
fn an_interface_may_have_a_dot_in_its_name() -> Outcome {
    let Some(mut chain) = Chain::with_interface("eth0.7", VERSION, conf())? else { return Ok(()) };
    chain.conf["dataDir"] = json!(data_dir(&chain));
    let result = chain.add()?;
    for key in ["arp_filter", "log_martians"] {
        assert_eq!(chain.sysctl(&format!("net/ipv4/conf/eth0.7/{key}"))?, "1");
    }
    succeeded(chain.check(&result)?)?;
    chain.del()?;
    assert!(names(&data_dir(&chain))?.is_empty());
    Ok(())
}

#[test]
fn the_wishes_of_the_runtime_come_before_the_network() -> Outcome {
    let Some(mut chain) = chain(VERSION, conf())? else { return Ok(()) };
    chain.attachment.args = "IgnoreUnknown=1;MAC=02:00:00:00:00:02".into();
    let result = chain.add()?;
    assert_eq!(result["interfaces"][2]["mac"], json!("02:00:00:00:00:02"));
    chain.conf["runtimeConfig"] = json!({"mac": "02:00:00:00:00:03"});
    assert_eq!(chain.add()?["interfaces"][2]["mac"], json!("02:00:00:00:00:03"));
    chain.conf["args"] = json!({"cni": {
        "mac": "02:00:00:00:00:04", "mtu": 1300, "promisc": false, "allmulti": false, "txQLen": 7,
        "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "0"},
    }});
    let result = chain.add()?;
    assert_eq!(result["interfaces"][2]["mac"], json!("02:00:00:00:00:04"));
    let link = chain.link()?;
    assert_eq!((link.mtu, link.transmit_queue), (1300, 7));
    // What an ADD before this one switched on and this one does not ask for stays until DEL.
    assert!(link.is_promiscuous() && !link.is_all_multicast());
    assert_eq!(chain.sysctl("net/ipv4/conf/eth0/arp_filter")?, "0");
    succeeded(chain.check(&result)?)?;
    chain.del()?;
    Ok(assert_restored(&chain, "three ADDs and one DEL")?)
}

#[test]
fn check_notices_each_difference() -> Outcome {
    type Change = fn(u32) -> kernel::netlink::Message;
    let changes: [(&str, Change); 5] = [
        ("MAC", |link| links::set_mac(link, MacAddress([2, 0, 0, 0, 0, 1]))),
        ("MTU", |link| links::set_mtu(link, 1399)),
        ("promiscuous", |link| links::set_promiscuous(link, false)),
        ("all-multicast", |link| links::set_all_multicast(link, false)),
        ("transmit queue", |link| links::set_transmit_queue(link, 320)),
    ];
    let Some(chain) = chain(VERSION, conf())? else { return Ok(()) };
    let result = chain.add()?;
    let mut rtnl = Rtnl::open_in(chain.pod.netns())?;
    for (words, change) in changes {
        succeeded(chain.check(&result)?)?;
        rtnl.request(&change(chain.link()?.index))?;
        assert_refused(&chain.check(&result)?, 102, words);
        chain.add()?;
    }
    reset_sysctls(&chain)?;
    assert_refused(&chain.check(&result)?, 102, "arp_filter");
    rtnl.request(&links::delete(chain.link()?.index))?;
    assert_refused(&chain.check(&result)?, 102, "is gone");
    Ok(())
}

#[test]
fn gc_removes_the_backups_of_dead_attachments_of_its_network_alone() -> Outcome {
    let Some(mut chain) = chain(VERSION, conf())? else { return Ok(()) };
    let folder = data_dir(&chain);
    chain.add()?;
    let (_pod, other, previous) = chain.other_pod("other")?;
    let call = chain.call_with("ADD", &other, &previous)?;
    succeeded(call.run(&chain.host)?)?;
    // As the reference writes it, which does not say of which network it is.
    std::fs::write(folder.join("go_eth0.json"), r#"{"mtu": 1500}"#)?;
    chain.gc(&["pod", "other"])?;
    assert_eq!(names(&folder)?.len(), 3);
    chain.conf["name"] = json!("net2");
    chain.gc(&[])?;
    assert_eq!(names(&folder)?.len(), 3);
    chain.conf["name"] = json!("net");
    chain.gc(&["other"])?;
    assert_eq!(names(&folder)?, ["go_eth0.json", "other_eth0.json"]);
    chain.gc(&[])?;
    assert_eq!(names(&folder)?, ["go_eth0.json"]);
    Ok(())
}

#[test]
fn status_says_whether_a_backup_could_be_written() -> Outcome {
    let Some(mut chain) = chain(VERSION, conf())? else { return Ok(()) };
    succeeded(chain.status()?)?;
    let file = chain.host.data_dir().join("file");
    std::fs::create_dir_all(chain.host.data_dir())?;
    std::fs::write(&file, "")?;
    chain.conf["dataDir"] = json!(file.join("below"));
    assert_refused(&chain.status()?, 50, "dataDir");
    chain.conf = json!({"type": "tuning", "name": "net", "cniVersion": VERSION, "dataDir": file,
        "sysctl": {"net.core.somaxconn": "500"}});
    succeeded(chain.status()?)?;
    chain.conf["mtu"] = json!(7);
    assert_refused(&chain.status()?, 50, "mtu 7");
    Ok(())
}

/// The system calls of an ADD.
fn syscalls(strace: &Strace) -> Result<Vec<Syscall>> {
    let chain = chain(VERSION, conf())?.unwrap();
    let (answer, syscalls) = strace.syscalls(chain.call("ADD")?, &chain.host)?;
    succeeded(answer)?;
    Ok(syscalls)
}

#[test]
fn killed_at_any_system_call_del_restores_what_was_before_the_first_add() -> Outcome {
    let Some(strace) = require::root()?.then(Strace::find).transpose()?.flatten() else {
        return Ok(());
    };
    let (syscalls, killed) = (syscalls(&strace)?, AtomicUsize::new(0));
    strace::for_each(&syscalls, |syscall| {
        let case = format!("killed at {} number {}", syscall.name, syscall.turn);
        for again in [false, true] {
            let chain = chain(VERSION, conf())?.unwrap();
            let ended = strace.kill_at(syscall, chain.call("ADD")?, &chain.host)?;
            killed.fetch_add(usize::from(ended.code.is_none()), Ordering::Relaxed);
            if again {
                chain.add()?;
                assert_tuned(&chain, &case)?;
            }
            chain.del()?;
            assert_restored(&chain, &format!("{case}, with a second ADD: {again}"))?;
        }
        Ok(())
    })?;
    let (killed, all) = (killed.into_inner(), syscalls.len() * 2);
    assert!(killed * 10 > all * 9, "only {killed} of {all} were killed");
    Ok(())
}

#[test]
fn killed_at_any_system_call_gc_leaves_no_file() -> Outcome {
    let Some(strace) = require::root()?.then(Strace::find).transpose()?.flatten() else {
        return Ok(());
    };
    strace::for_each(&syscalls(&strace)?, |syscall| {
        let chain = chain(VERSION, conf())?.unwrap();
        strace.kill_at(syscall, chain.call("ADD")?, &chain.host)?;
        chain.gc(&[])?;
        assert!(names(&data_dir(&chain))?.is_empty(), "{} {}", syscall.name, syscall.turn);
        Ok(())
    })?;
    Ok(())
}

#[test]
fn failing_at_any_system_call_leaves_nothing() -> Outcome {
    let Some(strace) = require::root()?.then(Strace::find).transpose()?.flatten() else {
        return Ok(());
    };
    let mut syscalls = syscalls(&strace)?;
    syscalls.retain(asks);
    assert!(syscalls.len() > 15, "{syscalls:?}");
    strace::for_each(&syscalls, |syscall| {
        let case = format!("failed at {} number {}", syscall.name, syscall.turn);
        let chain = chain(VERSION, conf())?.unwrap();
        let answer = strace.fail_at(syscall, "ENOMEM", chain.call("ADD")?, &chain.host)?;
        if answer.failure().is_none() {
            chain.del()?;
        } else {
            // What DEL leaves alone, the ADD must have set back.
            chain.assert_nothing_left(&case)?;
        }
        assert_restored(&chain, &case)
    })?;
    Ok(())
}

/// Calls that ask for something; of the `setns`, those that enter a namespace.
fn asks(syscall: &Syscall) -> bool {
    match syscall.name.as_str() {
        "openat" | "open" | "sendto" | "sendmsg" | "socket" | "bind" | "rename" | "mkdir" => true,
        "setns" => syscall.turn % 2 == 1,
        _ => false,
    }
}

#[test]
fn either_suite_restores_what_the_other_has_tuned() -> Outcome {
    let Some(reference) = require::part(Part::Reference)? else { return Ok(()) };
    let ours = bins::plugin_dir()?;
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        for (from, to) in [(&ours, &reference), (&reference, &ours)] {
            let Some(chain) = chain(version, conf())? else { return Ok(()) };
            let mut conf = chain.conf.clone();
            conf["prevResult"] = chain.previous.clone();
            let add = chain.call_of(from, "ADD", &chain.attachment, &conf)?;
            conf["prevResult"] = succeeded(add.run(&chain.host)?)?.json()?;
            assert_tuned(&chain, version)?;
            for verb in ["CHECK", "DEL"] {
                let call = chain.call_of(to, verb, &chain.attachment, &conf)?;
                succeeded(call.run(&chain.host)?)?;
            }
            assert_restored(&chain, version)?;
        }
    }
    Ok(())
}
