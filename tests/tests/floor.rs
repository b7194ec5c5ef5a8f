//! The floor asks for exactly as much of the kernel as its source says: it is the measure of others.

use std::fs;

use cbr0_tests::counts::Counts as Counted;
use cbr0_tests::error::Context;
use cbr0_tests::node::Node;
use cbr0_tests::plugin::Call;
use cbr0_tests::pod::Pod;
use cbr0_tests::strace::Strace;
use cbr0_tests::{LabError, Outcome, Result, bins, floor, require};

#[path = "../src/bin/floor/counts.rs"]
mod counts;
use counts::{
    ADD, ADD_DUAL_STACK, ADD_MASQUERADING, Counts, DEL, DEL_DUAL_STACK, DEL_MASQUERADING, PTP_ADD,
    RELEASE, RESERVE,
};

fn host() -> Result<Node> {
    let host = Node::create("host")?;
    floor::prepare(&host)?;
    let reservations = host.data_dir().join("net");
    fs::create_dir_all(&reservations).context(|| format!("make {}", reservations.display()))?;
    Ok(host)
}

fn call(plugin: &str, verb: &str, host: &Node, pod: &Pod) -> Result<Call> {
    let attachment = pod.attachment();
    Ok(Call::new(bins::program("floor")?, verb)
        .args([plugin])
        .env("CNI_CONTAINERID", &attachment.container_id)
        .env("CNI_NETNS", &attachment.netns)
        .env("FLOOR_RESERVATIONS", host.data_dir().join("net").to_string_lossy()))
}

fn count(strace: &Strace, call: Call, host: &Node) -> Result<Counts> {
    let (answer, log) = strace.log(call, host)?;
    if let Some(error) = answer.failure() {
        return Err(LabError::Wrong(format!("the floor failed: {error}")));
    }
    let counted = Counted::of(&log);
    // Is the IPv6 address taken in? If not yet, that is asked for again. (strace knows no names for
    // what is sent on a socket of another namespace than its own: 0x1a is RTM_GETROUTE.)
    let asked = log.lines().filter(|line| line.contains("sendto(") && line.contains("=0x1a "));
    let again = asked.count().saturating_sub(1);
    Ok(Counts { requests: counted.requests - again, files: counted.files })
}

/// The first of all makes the files that later ones find.
fn counts(plugin: &str, with: impl Fn(Call) -> Call) -> Result<Option<(Counts, Counts)>> {
    let (Some(strace), true) = (Strace::find()?, require::root()?) else { return Ok(None) };
    let host = host()?;
    let first = Pod::create("first")?;
    count(&strace, with(call(plugin, "ADD", &host, &first)?), &host)?;
    let pod = Pod::create("pod")?;
    let add = count(&strace, with(call(plugin, "ADD", &host, &pod)?), &host)?;
    let del = count(&strace, with(call(plugin, "DEL", &host, &pod)?), &host)?;
    Ok(Some((add, del)))
}

#[test]
fn a_reservation() -> Outcome {
    if let Some(counted) = counts("host-local", |call| call)? {
        assert_eq!(counted, (RESERVE, RELEASE));
    }
    Ok(())
}

#[test]
fn an_attachment() -> Outcome {
    if let Some(counted) = counts("bridge", |call| call)? {
        assert_eq!(counted, (ADD, DEL));
    }
    Ok(())
}

#[test]
fn an_attachment_to_the_host_alone() -> Outcome {
    if let Some(counted) = counts("ptp", |call| call)? {
        assert_eq!(counted, (PTP_ADD, DEL));
    }
    Ok(())
}

#[test]
fn an_attachment_with_ipv6() -> Outcome {
    if let Some(counted) = counts("bridge", |call| call.env("FLOOR_DUAL_STACK", "1"))? {
        assert_eq!(counted, (ADD_DUAL_STACK, DEL_DUAL_STACK));
    }
    Ok(())
}

#[test]
fn masquerading_costs_one_request_more() -> Outcome {
    if let Some(counted) = counts("bridge", |call| call.env("FLOOR_MASQUERADE", "1"))? {
        assert_eq!(counted, (ADD_MASQUERADING, DEL_MASQUERADING));
    }
    Ok(())
}
