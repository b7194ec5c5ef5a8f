//! What the demo prints of its network.

use std::fmt::Write as _;
use std::net::IpAddr;

use cbr0_tests::Result;
use cbr0_tests::probe::Endpoint;
use kernel::route::TABLE_MAIN;

use crate::lab::Lab;
use crate::matrix::Matrix;
use crate::member::{AddedPod, Member};

/// Every Pod with its addresses.
pub(crate) fn pods(members: &[Member]) {
    println!("{:<14}{:<8}{:<14}{:<22}MAC", "Pod", "node", "IPv4", "IPv6");
    for member in members {
        for AddedPod { pod, addresses, mac } in &member.pods {
            let family = |place: usize| addresses.get(place).map_or("-".into(), IpAddr::to_string);
            println!(
                "{:<14}{:<8}{:<14}{:<22}{mac}",
                pod.container_id,
                member.node.name,
                family(0),
                family(1)
            );
        }
    }
    println!();
}

/// The routes of every node.
pub(crate) fn routes(members: &[Member]) -> Result<()> {
    for Member { node, .. } in members {
        println!("Routes of {}:", node.name);
        let mut rtnl = node.rtnl()?;
        for route in rtnl.routes(TABLE_MAIN)? {
            let link = route.link.map(|link| rtnl.link_by_index(link)).transpose()?.flatten();
            // Every link has its own link-local network; it says nothing here.
            if matches!(route.destination.ip(), IpAddr::V6(v6) if v6.is_unicast_link_local()) {
                continue;
            }
            let mut line = format!("  {:<20}", route.destination.to_string());
            if let Some(gateway) = route.gateway {
                let _ = write!(line, " via {gateway}");
            }
            println!("{line} dev {}", link.map(|link| link.name).unwrap_or_default());
        }
    }
    println!();
    Ok(())
}

/// Has everybody call everybody, and tells what came of it; whether all came as promised.
pub(crate) fn matrix(lab: &Lab) -> Result<bool> {
    let parties = lab.parties();
    let _listening =
        parties.iter().map(|party| Endpoint::serve(party.netns)).collect::<Result<Vec<_>>>()?;
    let matrix = Matrix::of(&parties);
    println!("{matrix}");
    let (calls, kept) = matrix.count();
    if calls == kept {
        println!(
            "OK: all {calls} calls came as promised: by the caller's address, outside its node's."
        );
    } else {
        println!("FAILED: {kept} of {calls} calls came as promised.");
    }
    Ok(calls == kept)
}
