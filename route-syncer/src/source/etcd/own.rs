//! What this node has to do about its own lease. Pure: decided from what is in etcd.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use ipnetwork::IpNetwork;

use super::config::{Config, ConfigError};
use super::contents::Contents;
use super::key::Subnet;
use super::picture::Picture;
use super::value::{self, Identity};

/// What `leave` puts beside a node's value.
const BY: &str = "By";
const LEAVE: &str = "leave";
const FORGET: &str = "forget";

/// What is so, and what is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Own {
    /// The lease is there.
    Has {
        /// The ranges.
        subnet: Subnet,
        /// The lease to keep alive; 0 for a reservation, which needs none.
        lease: i64,
        /// The revision of the value, if it does not say what it should.
        stale: Option<i64>,
    },
    /// The lease is to be taken, in one transaction.
    Take(Subnet),
    /// It cannot have one now.
    Lacks(Lack),
}

/// Why this node has no lease.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// Nobody knows which subnets there are.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// All are in use.
    #[error(
        "all {count} subnets of {network} are leased; let nodes leave (route-syncer leave), \
         forget dead ones (route-syncer forget NODE), or put a larger Network"
    )]
    Exhausted {
        /// How many there are.
        count: u128,
        /// What they are cut from.
        network: IpNetwork,
    },
    /// Somebody else has it.
    #[error(
        "this node's subnet {subnet} was leased to {holder} while this node was away; its Pods and \
         routes are kept, but other nodes reach {holder} by that range now; remove either node's \
         Pods, and on this one: stop the daemon, run route-syncer leave, start it again: it \
         takes another subnet"
    )]
    Lost {
        /// What it was.
        subnet: Subnet,
        /// Who has it, by name and address.
        holder: String,
    },
    /// A copy of this machine runs.
    #[error(
        "another machine with this node's name and machine ID writes the lease of {0} too; give \
         one of the two a machine ID of its own (rm /etc/machine-id; systemd-machine-id-setup)"
    )]
    Twin(Subnet),
    /// It was told to.
    #[error(
        "this node has left the cluster, its subnet {0} is free; stop the daemon, or start it \
         again to join"
    )]
    Left(Subnet),
}

/// Another node with an address of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{holder} has a living lease for {subnet} with this node's address and another machine ID; \
     give this node an address of its own with --node-address, or, if it is this machine after a \
     new installation, run: route-syncer forget {name}"
)]
pub struct SameAddress {
    /// Who it is, by name and address.
    pub holder: String,
    /// Its name.
    pub name: String,
    /// What it leased.
    pub subnet: Subnet,
}

/// Decides. `remembered` is the subnet that this node had last.
pub fn decide(
    own: &Identity,
    remembered: Option<Subnet>,
    contents: &Contents,
    picture: &Picture,
    config: &Result<Config, ConfigError>,
) -> Own {
    let mine = leases(contents).filter(|(_, identity)| identity.is_same_node(own));
    // Of several, the one that this node's Pods are in.
    let mine = mine.max_by_key(|(subnet, _)| Some(*subnet) == remembered);
    if let Some((subnet, written)) = mine
        && remembered.is_none_or(|remembered| remembered == subnet)
    {
        let stored = contents.leases.get(&subnet.to_string());
        let revision = stored.map_or(0, |stored| stored.revision);
        return Own::Has {
            subnet,
            lease: stored.map_or(0, |stored| stored.lease),
            stale: (written != *own).then_some(revision),
        };
    }
    match remembered {
        Some(subnet) => again(subnet, contents),
        None => match config {
            Ok(config) => any(own, config, contents, picture),
            Err(error) => Own::Lacks(error.clone().into()),
        },
    }
}

/// The subnet of before, or none: a node is never renumbered under its Pods.
fn again(subnet: Subnet, contents: &Contents) -> Own {
    let overlapping = contents.leases.iter().find_map(|(name, stored)| {
        let other: Subnet = name.parse().ok()?;
        let overlap = crate::ranges::overlap(other.v4.into(), subnet.v4.into());
        overlap.then(|| match value::parse(&stored.value) {
            Ok(identity) => describe(&identity),
            Err(_) => format!("the key {name}"),
        })
    });
    match overlapping {
        None => Own::Take(subnet),
        Some(holder) => Own::Lacks(Lack::Lost { subnet, holder }),
    }
}

/// Any subnet that is free; one that is held for somebody only if there is no other.
fn any(own: &Identity, config: &Config, contents: &Contents, picture: &Picture) -> Own {
    let keys = contents.leases.keys().filter_map(|name| name.parse::<Subnet>().ok());
    let leased: Vec<IpNetwork> = keys.flat_map(|subnet| subnet.ranges()).collect();
    let held = picture.held().flat_map(|member| member.subnet.ranges());
    let all: Vec<IpNetwork> = leased.iter().copied().chain(held).collect();
    let start = start(own);
    let pools = &config.pools;
    match pools.pick(start, all).or_else(|| pools.pick(start, leased)) {
        Some(subnet) => Own::Take(subnet),
        None => {
            let network = config.networks.first().copied();
            let network = network.unwrap_or_else(|| IpNetwork::from(config.pools.v4.first));
            Own::Lacks(Lack::Exhausted { count: pools.count(), network })
        }
    }
}

/// Where a node begins to look: elsewhere than the others.
fn start(own: &Identity) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&own.machine, &own.name).hash(&mut hasher);
    hasher.finish()
}

/// Whether a living lease of another machine has an address of ours.
///
/// # Errors
/// One has.
pub fn check_address(own: &Identity, contents: &Contents) -> Result<(), SameAddress> {
    let same =
        leases(contents).find(|(_, other)| other.shares_address(own) && !other.is_same_node(own));
    match same {
        None => Ok(()),
        Some((subnet, other)) => {
            Err(SameAddress { holder: describe(&other), name: other.name, subnet })
        }
    }
}

/// Whether this node itself gave `subnet` back.
pub fn has_left(own: &Identity, subnet: Subnet, contents: &Contents) -> bool {
    let sign = contents.left.get(&subnet.to_string());
    sign.is_some_and(|sign| {
        let by = serde_json::from_slice::<serde_json::Value>(&sign.value);
        by.is_ok_and(|sign| sign[BY] == LEAVE)
            && value::parse(&sign.value).is_ok_and(|identity| identity.is_same_node(own))
    })
}

/// The sign that a node has left: its value, and who says so.
pub fn sign(identity: &Identity, by_itself: bool) -> String {
    let by = if by_itself { LEAVE } else { FORGET };
    let mut value = serde_json::from_str(&identity.value()).unwrap_or(serde_json::Value::Null);
    value[BY] = by.into();
    value.to_string()
}

/// The leases that can be read.
pub fn leases(contents: &Contents) -> impl Iterator<Item = (Subnet, Identity)> {
    contents
        .leases
        .iter()
        .filter_map(|(name, stored)| Some((name.parse().ok()?, value::parse(&stored.value).ok()?)))
}

/// A node for people.
pub fn describe(identity: &Identity) -> String {
    let addresses: Vec<String> = identity.addresses().iter().map(ToString::to_string).collect();
    let addresses = addresses.join(", ");
    if identity.name == addresses { addresses } else { format!("{} ({addresses})", identity.name) }
}

#[cfg(test)]
#[path = "own_tests.rs"]
mod tests;
