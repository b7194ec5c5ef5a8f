//! `bandwidth`: what the container receives and sends is limited, and nothing else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cbr0_tests::error::Context as _;
use cbr0_tests::require::{self, Part};
use cbr0_tests::runtime::Attachment;
use cbr0_tests::strace::{self, Strace, Syscall};
use cbr0_tests::{LabError, Outcome, Result, bins};
use kernel::link::{self as links, Link};
use kernel::netlink::Message;
use kernel::traffic::{self, Qdisc, TokenBucket};
use kernel::{MacAddress, NetNs, Rtnl};
use serde_json::{Value, json};

use crate::fixture::{Chain, assert_refused, link, succeeded};

const VERSION: &str = "1.1.0";
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// 1 MB/s with bursts of 10 kB, and 25 ms of waiting.
const INGRESS: TokenBucket = TokenBucket { rate: 1_000_000, buffer: 156_250, limit: 35_000 };
/// 2 MB/s with bursts of 20 kB.
const EGRESS: TokenBucket = TokenBucket { rate: 2_000_000, buffer: 156_250, limit: 70_000 };

fn conf() -> Value {
    json!({
        "type": "bandwidth",
        "ingressRate": 8_000_000, "ingressBurst": 80_000,
        "egressRate": 16_000_000, "egressBurst": 160_000,
    })
}

/// A Pod that is to be limited; `None` on a machine where it cannot be.
fn chain(version: &str, conf: Value) -> Result<Option<Chain>> {
    if require::root()? && require::link_kind("ifb")? {
        Chain::new(version, conf)
    } else {
        Ok(None)
    }
}

/// The host's end of the veth that the bridge told of in this result.
fn veth(chain: &Chain, previous: &Value) -> Result<Link> {
    let name = previous["interfaces"][1]["name"].as_str().unwrap_or_default();
    Ok(link(chain.host.netns(), name)?.unwrap())
}

fn limiters(chain: &Chain) -> Result<Vec<Link>> {
    let mut all = chain.host.rtnl()?.links()?;
    all.retain(|link| link.kind == "ifb" && link.name.starts_with("bw"));
    Ok(all)
}

fn qdiscs(chain: &Chain, link: &Link) -> Result<Vec<Qdisc>> {
    let mut all = chain.host.rtnl()?.qdiscs()?;
    all.retain(|qdisc| qdisc.link == link.index && qdisc.kind != "noqueue");
    Ok(all)
}

fn bucket(chain: &Chain, link: &Link) -> Result<Option<Qdisc>> {
    Ok(qdiscs(chain, link)?.into_iter().find(|qdisc| qdisc.is_root))
}

fn assert_limited(chain: &Chain, previous: &Value, limiter: &Link) -> Result<()> {
    let veth = veth(chain, previous)?;
    assert_eq!(bucket(chain, &veth)?.unwrap().bucket, Some(INGRESS));
    assert_eq!(bucket(chain, limiter)?.unwrap().bucket, Some(EGRESS));
    assert_eq!((limiter.is_up(), limiter.mtu), (true, veth.mtu));
    assert_eq!(chain.host.rtnl()?.redirections(veth.index)?.1, [limiter.index]);
    Ok(())
}

/// Snapshots do not have traffic control.
fn assert_nothing_left(chain: &Chain, case: &str) -> Result<()> {
    chain.assert_nothing_left(case)?;
    let veth = veth(chain, &chain.previous)?;
    assert_eq!(qdiscs(chain, &veth)?, [], "{case}");
    assert_eq!(chain.host.rtnl()?.redirections(veth.index)?.0, 0, "{case}");
    Ok(())
}

#[test]
fn in_every_version_both_directions_are_limited_until_del() -> Outcome {
    for version in VERSIONS {
        let Some(chain) = chain(version, conf())? else { return Ok(()) };
        let result = chain.add()?;
        let [limiter] = &limiters(&chain)?[..] else { panic!("not one limiter") };
        assert_limited(&chain, &chain.previous, limiter)?;
        assert_eq!(limiter.alias, "net/pod/eth0");
        let interfaces = result["interfaces"].as_array().unwrap();
        assert_eq!(interfaces[..3], chain.previous["interfaces"].as_array().unwrap()[..]);
        assert_eq!(interfaces[3]["name"], json!(limiter.name));
        assert_eq!(result["ips"], chain.previous["ips"]);
        if !version.starts_with("0.3") {
            succeeded(chain.check(&result)?)?;
        }
        if version == VERSION {
            succeeded(chain.status()?)?;
        }
        chain.del()?;
        assert_nothing_left(&chain, version)?;
        chain.del()?;
        chain.del_by_triple()?;
        assert_nothing_left(&chain, version)?;
    }
    Ok(())
}

#[test]
fn one_direction_alone_and_none_are_possible() -> Outcome {
    let Some(mut chain) = chain(VERSION, json!({"type": "bandwidth"}))? else { return Ok(()) };
    assert_eq!(chain.add()?["interfaces"], chain.previous["interfaces"]);
    succeeded(chain.check(&chain.previous)?)?;
    assert_nothing_left(&chain, "no limits")?;

    chain.conf["runtimeConfig"] =
        json!({"bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 80_000}});
    let result = chain.add()?;
    assert_eq!(result["interfaces"], chain.previous["interfaces"]);
    assert_eq!(bucket(&chain, &veth(&chain, &result)?)?.unwrap().bucket, Some(INGRESS));
    succeeded(chain.check(&result)?)?;
    chain.del_by_triple()?;
    assert_nothing_left(&chain, "ingress alone")?;

    chain.conf["runtimeConfig"] =
        json!({"bandwidth": {"egressRate": 16_000_000, "egressBurst": 160_000}});
    chain.conf["latency"] = json!(50);
    let result = chain.add()?;
    let wanted = TokenBucket { limit: 120_000, ..EGRESS };
    assert_eq!(bucket(&chain, &limiters(&chain)?[0])?.unwrap().bucket, Some(wanted));
    assert_eq!(bucket(&chain, &veth(&chain, &result)?)?, None);
    succeeded(chain.check(&result)?)?;
    chain.del_by_triple()?;
    Ok(assert_nothing_left(&chain, "egress alone")?)
}

/// What containerd asks for when a Pod's annotation names a rate.
#[test]
fn a_burst_without_end_is_checked_as_it_was_made() -> Outcome {
    let limits = json!({"ingressRate": 1_000_000, "ingressBurst": u32::MAX - 1});
    let keys = json!({"type": "bandwidth", "runtimeConfig": {"bandwidth": limits}});
    let Some(chain) = chain(VERSION, keys)? else { return Ok(()) };
    let result = chain.add()?;
    let made = bucket(&chain, &veth(&chain, &result)?)?.and_then(|qdisc| qdisc.bucket).unwrap();
    assert_eq!((made.rate, made.buffer), (125_000, u32::MAX));
    succeeded(chain.check(&result)?)?;
    chain.del()?;
    Ok(assert_nothing_left(&chain, "a burst without end")?)
}

#[test]
fn del_needs_the_triple_alone() -> Outcome {
    let gone = NetNs::create()?;
    let dead = gone.path().to_string_lossy().into_owned();
    drop(gone);
    for netns in ["", &dead, "/proc/self/ns/net", "/dev/null"] {
        let Some(mut chain) = chain(VERSION, conf())? else { return Ok(()) };
        chain.add()?;
        chain.conf["ingressRate"] = json!("broken");
        chain.conf["egressBurst"] = json!(0);
        chain.attachment.netns = netns.to_owned();
        for _ in 0..2 {
            let call = chain.call_with("DEL", &chain.attachment, &Value::Null)?;
            succeeded(call.run(&chain.host)?)?;
            assert_nothing_left(&chain, netns)?;
        }
    }
    Ok(())
}

/// The limiter goes also when the veth, which the bridge removes, is gone before.
#[test]
fn del_after_the_interface_is_gone_removes_the_limiter() -> Outcome {
    let Some(chain) = chain(VERSION, conf())? else { return Ok(()) };
    chain.add()?;
    let veth = veth(&chain, &chain.previous)?;
    chain.host.rtnl()?.request(&links::delete(veth.index))?;
    chain.del_by_triple()?;
    assert!(limiters(&chain)?.is_empty());
    Ok(())
}

#[test]
fn several_interfaces_of_a_container_are_limited_each_for_itself() -> Outcome {
    let Some(chain) = chain(VERSION, conf())? else { return Ok(()) };
    let second = Attachment { ifname: "eth1".into(), ..chain.attachment.clone() };
    let previous = chain.more(&second)?;
    let first_result = chain.add()?;
    let call = chain.call_with("ADD", &second, &previous)?;
    let result = succeeded(call.run(&chain.host)?)?.json()?;
    let all = limiters(&chain)?;
    assert_eq!(all.len(), 2);
    let of = |alias: &str| all.iter().find(|link| link.alias == alias).unwrap();
    assert_limited(&chain, &chain.previous, of("net/pod/eth0"))?;
    assert_limited(&chain, &previous, of("net/pod/eth1"))?;
    let call = chain.call_with("DEL", &second.without_netns(), &Value::Null)?;
    succeeded(call.run(&chain.host)?)?;
    succeeded(chain.check(&first_result)?)?;
    let check = chain.call_with("CHECK", &second, &result)?.run(&chain.host)?;
    assert_refused(&check, 102, "is not limited");
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_before_any_change() -> Outcome {
    for (keys, code, words) in [
        (json!({"ingressBurst": 0}), 7, "if rate is set, burst must also be set"),
        (json!({"egressRate": 0}), 7, "if burst is set, rate must also be set"),
        (json!({"egressBurst": 34_359_738_360_u64}), 7, "burst cannot be more than 4GB"),
        (json!({"ingressRate": "fast"}), 6, "ingressRate"),
        (json!({"latency": 0}), 7, "latency 0"),
        (json!({"cniVersion": "0.2.0"}), 1, "incompatible CNI versions"),
    ] {
        let Some(mut chain) = chain(VERSION, conf())? else { return Ok(()) };
        for (key, value) in keys.as_object().unwrap() {
            chain.conf[key] = value.clone();
        }
        assert_refused(&chain.call("ADD")?.run(&chain.host)?, code, words);
        assert_nothing_left(&chain, words)?;
    }
    let Some(chain) = chain(VERSION, conf())? else { return Ok(()) };
    let alone = chain.call_with("ADD", &chain.attachment, &Value::Null)?.run(&chain.host)?;
    assert_refused(&alone, 7, "must be called as chained plugin");
    let absent = Attachment { ifname: "eth7".into(), ..chain.attachment.clone() };
    let absent = chain.call_with("ADD", &absent, &chain.previous)?.run(&chain.host)?;
    assert_refused(&absent, 4, "eth7");
    let mac = MacAddress([2, 0, 0, 0, 0, 7]);
    let other = links::Bridge { name: "br7", mac, mtu: None };
    Rtnl::open_in(chain.pod.netns())?.request(&other.create())?;
    let other = Attachment { ifname: "br7".into(), ..chain.attachment.clone() };
    let other = chain.call_with("ADD", &other, &chain.previous)?.run(&chain.host)?;
    assert_refused(&other, 7, "has no veth peer");
    Ok(())
}

#[test]
fn check_notices_each_difference() -> Outcome {
    let Some(chain) = chain(VERSION, conf())? else { return Ok(()) };
    let veth = veth(&chain, &chain.previous)?.index;
    let slower = TokenBucket { rate: 999_999, ..INGRESS };
    let cases: [(&str, &dyn Fn(u32) -> Message); 6] = [
        ("is not limited", &|_| TokenBucket::delete_root(veth)),
        ("is not limited", &TokenBucket::delete_root),
        ("is limited by", &|_| slower.replace_root(veth)),
        ("is not redirected", &|_| traffic::delete_redirect(veth)),
        ("is down", &links::set_down),
        ("is gone", &links::delete),
    ];
    for (words, change) in cases {
        let result = chain.add()?;
        succeeded(chain.check(&result)?)?;
        chain.host.rtnl()?.request(&change(limiters(&chain)?[0].index))?;
        assert_refused(&chain.check(&result)?, 102, words);
    }
    Ok(())
}

#[test]
fn gc_removes_the_limiters_of_dead_attachments_of_its_network_alone() -> Outcome {
    let Some(mut chain) = chain(VERSION, conf())? else { return Ok(()) };
    chain.add()?;
    let (_pod, other, previous) = chain.other_pod("other")?;
    succeeded(chain.call_with("ADD", &other, &previous)?.run(&chain.host)?)?;
    chain.gc(&["pod", "other"])?;
    chain.conf["name"] = json!("net2");
    chain.gc(&[])?;
    assert_eq!(limiters(&chain)?.len(), 2);
    chain.conf["name"] = json!("net");
    chain.gc(&["other"])?;
    let left = limiters(&chain)?;
    assert_eq!(left.iter().map(|link| &*link.alias).collect::<Vec<_>>(), ["net/other/eth0"]);
    chain.gc(&[])?;
    assert!(limiters(&chain)?.is_empty());
    Ok(())
}

/// A request of `tc` about what arrives at a link: `struct tcmsg`, and the kind.
fn tc(kind: u16, link: u32, [handle, parent, info]: [u32; 3], name: &str) -> Message {
    const TCA_KIND: u16 = 1;
    let create_exclusively = if kind.is_multiple_of(4) { 0x600 } else { 0 };
    let header: Vec<u8> =
        [0, link, handle, parent, info].iter().flat_map(|word| word.to_ne_bytes()).collect();
    Message::new(format!("tc {name}"), kind, create_exclusively, &header).put_text(TCA_KIND, name)
}

/// What others do on the veth, such as an eBPF program at its `clsact`, goes on.
#[test]
fn what_others_have_on_the_veth_stays() -> Outcome {
    let [new_qdisc, delete_qdisc, new_filter] = [36, 37, 44];
    let Some(chain) = chain(VERSION, conf())? else { return Ok(()) };
    let mut host = chain.host.rtnl()?;
    let veth = veth(&chain, &chain.previous)?.index;
    for kind in ["clsact", "ingress"] {
        let qdisc = [0xffff_0000, 0xffff_fff1, 0];
        host.request(&tc(new_qdisc, veth, qdisc, kind))?;
        // Priority 77, all protocols, and one key that every packet has.
        let filter = tc(new_filter, veth, [0, 0xffff_fff2, 77 << 16 | 0x0300], "u32");
        let mut selector = [0; 32];
        (selector[0], selector[2]) = (1, 1);
        host.request(&filter.nest(2, |options| options.put_u32(1, 0x1_0001).put(5, &selector)))?;
        let before = host.redirections(veth)?.0;
        assert!(before > 0);
        let result = chain.add()?;
        succeeded(chain.check(&result)?)?;
        chain.del_by_triple()?;
        assert_eq!(host.redirections(veth)?, (before, vec![]), "{kind}");
        host.request(&tc(delete_qdisc, veth, qdisc, kind))?;
        assert_nothing_left(&chain, kind)?;
    }
    Ok(())
}

/// Sends from one namespace to an address of the other, until all has arrived.
fn transfer(from: &NetNs, to: &NetNs, address: &str) -> Result<()> {
    const BYTES: usize = 400_000;
    let listening = to.run(|| TcpListener::bind((address, 0)))?;
    let listener = listening.context(|| format!("listen on {address}"))?;
    let end = listener.local_addr().context(|| "the port".to_owned())?;
    let connected = from.run(|| TcpStream::connect(end))?;
    let mut stream = connected.context(|| format!("connect to {end}"))?;
    let receive = thread::spawn(move || -> std::io::Result<usize> {
        let mut all = Vec::new();
        listener.accept()?.0.read_to_end(&mut all)
    });
    stream.write_all(&vec![7; BYTES]).context(|| "send".to_owned())?;
    drop(stream);
    let received = receive.join().map_err(|_| LabError::Wrong("the receiver died".into()))?;
    assert_eq!(received.context(|| "receive".to_owned())?, BYTES);
    Ok(())
}

/// A bucket that lets packets wait has limited them, as its own counters tell.
#[test]
fn transfers_in_each_direction_are_held_back_by_their_own_bucket() -> Outcome {
    let Some(chain) = chain(VERSION, conf())? else { return Ok(()) };
    chain.add()?;
    let veth = veth(&chain, &chain.previous)?;
    let limiter = &limiters(&chain)?[0];
    let held = || -> Result<[u32; 2]> {
        let count = |qdisc: Option<Qdisc>| qdisc.map_or(0, |qdisc| qdisc.overlimits);
        Ok([count(bucket(&chain, &veth)?), count(bucket(&chain, limiter)?)])
    };
    let before = held()?;
    transfer(chain.host.netns(), chain.pod.netns(), "10.0.1.2")?;
    let received = held()?;
    assert!(received[0] > before[0], "{before:?} {received:?}");
    transfer(chain.pod.netns(), chain.host.netns(), "10.0.1.1")?;
    let sent = held()?;
    assert!(sent[1] > received[1], "{received:?} {sent:?}");
    chain.del()?;
    // Nothing is redirected to nowhere.
    transfer(chain.pod.netns(), chain.host.netns(), "10.0.1.1")?;
    Ok(())
}

fn strace_for() -> Result<Option<Strace>> {
    if require::root()? && require::link_kind("ifb")? { Strace::find() } else { Ok(None) }
}

fn syscalls(strace: &Strace) -> Result<Vec<Syscall>> {
    let chain = chain(VERSION, conf())?.unwrap();
    let (answer, syscalls) = strace.syscalls(chain.call("ADD")?, &chain.host)?;
    succeeded(answer)?;
    Ok(syscalls)
}

#[test]
fn killed_at_any_system_call_del_finds_all_and_add_works_again() -> Outcome {
    let Some(strace) = strace_for()? else { return Ok(()) };
    let (syscalls, killed) = (syscalls(&strace)?, AtomicUsize::new(0));
    strace::for_each(&syscalls, |syscall| {
        let case = format!("killed at {} number {}", syscall.name, syscall.turn);
        let chain = chain(VERSION, conf())?.unwrap();
        let ended = strace.kill_at(syscall, chain.call("ADD")?, &chain.host)?;
        killed.fetch_add(usize::from(ended.code.is_none()), Ordering::Relaxed);
        chain.del_by_triple()?;
        assert_nothing_left(&chain, &case)?;
        strace.kill_at(syscall, chain.call("ADD")?, &chain.host)?;
        let result = chain.add()?;
        succeeded(chain.check(&result)?)?;
        assert_eq!(limiters(&chain)?.len(), 1, "{case}, then ADD");
        strace.kill_at(syscall, chain.call("DEL")?, &chain.host)?;
        chain.del_by_triple()?;
        assert_nothing_left(&chain, &format!("{case}, then ADD, DEL"))?;
        strace.kill_at(syscall, chain.call("ADD")?, &chain.host)?;
        chain.gc(&[])?;
        assert!(limiters(&chain)?.is_empty(), "{case}, then GC");
        Ok(())
    })?;
    let (killed, all) = (killed.into_inner(), syscalls.len());
    assert!(killed * 10 > all * 9, "only {killed} of {all} were killed");
    Ok(())
}

#[test]
fn failing_at_any_system_call_leaves_nothing() -> Outcome {
    let Some(strace) = strace_for()? else { return Ok(()) };
    let mut syscalls = syscalls(&strace)?;
    syscalls.retain(|syscall| match syscall.name.as_str() {
        "openat" | "open" | "sendto" | "sendmsg" | "socket" | "bind" => true,
        // Those that enter a namespace, and not those that return from it.
        "setns" => syscall.turn % 2 == 1,
        _ => false,
    });
    assert!(syscalls.len() > 15, "{syscalls:?}");
    strace::for_each(&syscalls, |syscall| {
        let chain = chain(VERSION, conf())?.unwrap();
        let answer = strace.fail_at(syscall, "ENOMEM", chain.call("ADD")?, &chain.host)?;
        if answer.failure().is_none() {
            chain.del_by_triple()?;
        }
        assert_nothing_left(&chain, &format!("failed at {} number {}", syscall.name, syscall.turn))
    })?;
    Ok(())
}

#[test]
fn either_suite_checks_and_removes_what_the_other_has_limited() -> Outcome {
    let Some(reference) = require::part(Part::Reference)? else { return Ok(()) };
    let ours = bins::plugin_dir()?;
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let Some(chain) = chain(version, conf())? else { return Ok(()) };
        let mut conf = chain.conf.clone();
        let mut run = |folder: &std::path::Path, verb: &str, previous: &Value| -> Result<_> {
            conf["prevResult"] = previous.clone();
            let call = chain.call_of(folder, verb, &chain.attachment, &conf)?;
            succeeded(call.run(&chain.host)?)
        };
        let result = run(&reference, "ADD", &chain.previous)?.json()?;
        run(&ours, "CHECK", &result)?;
        run(&ours, "DEL", &result)?;
        assert_nothing_left(&chain, &format!("{version}: what the reference made"))?;
        // The reference looks for a limiter of its own name, and leaves the veth's bucket to the bridge.
        conf["egressRate"] = json!(0);
        conf["egressBurst"] = json!(0);
        conf["prevResult"] = chain.previous.clone();
        let add = chain.call_of(&ours, "ADD", &chain.attachment, &conf)?.run(&chain.host)?;
        let result = succeeded(add)?.json()?;
        conf["prevResult"] = result;
        for verb in ["CHECK", "DEL"] {
            let call = chain.call_of(&reference, verb, &chain.attachment, &conf)?;
            succeeded(call.run(&chain.host)?)?;
        }
    }
    Ok(())
}

#[test]
fn a_limiter_of_the_references_stays_while_another_interface_uses_it() -> Outcome {
    let Some(reference) = require::part(Part::Reference)? else { return Ok(()) };
    let Some(chain) = chain(VERSION, conf())? else { return Ok(()) };
    let mut conf = chain.conf.clone();
    conf["prevResult"] = chain.previous.clone();
    let add = chain.call_of(&reference, "ADD", &chain.attachment, &conf)?;
    succeeded(add.run(&chain.host)?)?;
    let second = Attachment { ifname: "eth1".into(), ..chain.attachment.clone() };
    chain.more(&second)?;
    let del = chain.call_with("DEL", &second, &Value::Null)?;
    succeeded(del.run(&chain.host)?)?;
    assert_eq!(limiters(&chain)?.len(), 1);
    chain.del_by_triple()?;
    assert!(limiters(&chain)?.is_empty());
    let veth = veth(&chain, &chain.previous)?;
    assert_eq!(qdiscs(&chain, &veth)?, []);
    Ok(())
}
