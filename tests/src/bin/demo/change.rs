//! A node joins the cluster, or leaves it, while the Pods of the others go on calling each other.

use std::process::ExitCode;

use cbr0_tests::syncer::{self, Facts};
use cbr0_tests::{LabError, Result};

use crate::calls::{self, Calls};
use crate::lab::{Lab, Source};
use crate::member::{Member, start_syncers};
use crate::show;

/// Adds a node with its Pods.
pub(crate) fn join() -> Result<ExitCode> {
    let mut lab = Lab::load()?;
    let (joined, calls) = calls::during(&lab.pods(), || {
        let mut joining = lab.make_node()?;
        println!("{} joins; the Pods of the others go on calling.", joining.node.name);
        if lab.source == Source::File {
            lab.write_nodes(Some(&joining))?;
        }
        start_syncers(std::slice::from_ref(&joining), &lab.facts(), lab.options())?;
        joining.add_pods(lab.pods_a_node)?;
        lab.wait_for_routes(Some(&joining))?;
        Ok(joining)
    })?;
    let name = joined.node.name.clone();
    lab.members.push(joined);
    lab.members.sort_by_key(|member| member.number);
    lab.save()?;
    println!("{name} has joined: all nodes have their routes to its Pods.\n");
    show::pods(&lab.members);
    conclude(&lab, &calls)
}

/// Removes a node with its Pods: the last one, if none is named.
pub(crate) fn leave(name: Option<&str>) -> Result<ExitCode> {
    let mut lab = Lab::load()?;
    let leaving = take(&mut lab.members, name)?;
    let ((), calls) = calls::during(&lab.pods(), || {
        println!("{} leaves; the Pods of the others go on calling.", leaving.node.name);
        leaving.delete_pods()?;
        sign_off(&lab, &leaving)?;
        lab.wait_for_routes(None)
    })?;
    let name = leaving.node.name.clone();
    leaving.remove(&lab.switch)?;
    lab.save()?;
    println!("{name} has left: no other node has a route to its Pods any more.\n");
    conclude(&lab, &calls)
}

/// Of the members the one with this name, or the last. One must stay.
fn take(members: &mut Vec<Member>, name: Option<&str>) -> Result<Member> {
    let index = match name {
        Some(name) => members.iter().position(|member| member.node.name == name),
        None => members.len().checked_sub(1),
    };
    let names: Vec<_> = members.iter().map(|member| member.node.name.as_str()).collect();
    match index {
        Some(index) if members.len() > 1 => Ok(members.remove(index)),
        Some(_) => Err(LabError::Wrong(
            "the last node cannot leave: remove everything with \"demo down\"".to_owned(),
        )),
        None => Err(LabError::Wrong(format!(
            "no node is called {:?}; there are {}",
            name.unwrap_or_default(),
            names.join(", ")
        ))),
    }
}

/// Tells the cluster that the node, which is no member any more, is gone for good.
fn sign_off(lab: &Lab, leaving: &Member) -> Result<()> {
    match lab.facts() {
        Facts::File(_) => lab.write_nodes(None),
        Facts::Etcd(endpoints) => {
            let left = syncer::leave(&leaving.node, &endpoints)?;
            if left.status.success() {
                return Ok(());
            }
            let name = &leaving.node.name;
            Err(LabError::Wrong(format!("route-syncer leave on {name}: {}", left.stderr.trim())))
        }
    }
}

/// Everybody calls everybody; and what became of the calls meanwhile.
fn conclude(lab: &Lab, calls: &Calls) -> Result<ExitCode> {
    let holds = show::matrix(lab)?;
    println!(
        "{}Meanwhile the Pods of the other nodes made {} calls; {} were lost.",
        calls.lost.iter().map(|line| format!("LOST {line}\n")).collect::<String>(),
        calls.made,
        calls.lost.len()
    );
    Ok(if holds && calls.lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
