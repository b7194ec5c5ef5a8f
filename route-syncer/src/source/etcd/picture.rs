//! The picture of the cluster: which nodes there are, and which are held. Pure: what is in etcd is
//! folded into the picture from before.
//!
//! That a key is gone says nothing: a lease expires when its node is cut off from etcd, and such a
//! node may well be alive on the data path. So whoever is missing is *held*, until there is evidence:
//!
//! - a sign that the node has left (`left/…`, which `leave` and `forget` write), or
//! - somebody else's claim to the range, or the same node's to another one.
//!
//! Evidence counts only if it is newer than what it speaks against, by the revision that wrote it.
//! When etcd tells another history than before (restored from a backup, or made anew), all that it
//! has is of before in this sense, and only what is written from then on is evidence.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::backend::Backend;
use super::contents::Contents;
use super::key::Subnet;
use super::value::{self, Identity};
use crate::ranges;

/// A node other than this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub identity: Identity,
    /// What it leased.
    pub subnet: Subnet,
    /// Evidence against it counts if a later revision wrote it.
    pub floor: i64,
    /// Since when it is held; none while its lease is there.
    pub held_since: Option<String>,
}

/// The members, and what was wrong with the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// The members by the name of their key.
    pub members: BTreeMap<String, Member>,
    /// The keys that were skipped, and why.
    pub skipped: BTreeMap<String, String>,
    /// Why etcd is not believed, while members are held because of it.
    pub doubt: Option<Doubt>,
}

/// Etcd told another history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// When it was noticed.
    pub since: String,
    /// How, in words.
    pub what: String,
}

/// What the contents are judged by.
#[derive(Clone, Copy, Debug)]
pub struct Viewpoint<'a> {
    /// This node.
    pub own: &'a Identity,
    /// The cluster's ranges, if they are known.
    pub networks: &'a [IpNetwork],
    /// Why this may be another history than that of the picture before.
    pub doubt: Option<&'a str>,
    /// The time, for people.
    pub now: &'a str,
}

/// Somebody's lease, as evidence.
struct Claim {
    identity: Identity,
    subnet: Subnet,
    revision: i64,
}

impl Picture {
    /// The next picture.
    #[must_use]
    pub fn fold(&self, contents: &Contents, view: &Viewpoint<'_>) -> Self {
        let mut next = Self::default();
        let mut claims = Vec::new();
        for (name, stored) in &contents.leases {
            let claim = match read(name, &stored.value, view) {
                Ok((identity, subnet)) => Claim { identity, subnet, revision: stored.revision },
                Err(reason) => {
                    next.skipped.insert(name.clone(), reason);
                    continue;
                }
            };
            if let Some(before) = self.members.get(name)
                && !claim.identity.is_same_node(&before.identity)
                && claim.revision <= floor(before, contents, view)
            {
                let holder = &before.identity.name;
                let reason = format!("it is older than what {holder} had, which is held");
                next.skipped.insert(name.clone(), reason);
                continue;
            }
            if !claim.identity.is_same_node(view.own) {
                next.members.insert(name.clone(), claim.member());
            }
            claims.push(claim);
        }
        for (name, before) in &self.members {
            if !next.members.contains_key(name) {
                let floor = floor(before, contents, view);
                if !is_gone(name, before, floor, contents, &claims) {
                    let since = before.held_since.clone().unwrap_or_else(|| view.now.to_owned());
                    let held = Member { floor, held_since: Some(since), ..before.clone() };
                    next.members.insert(name.clone(), held);
                }
            }
        }
        let news = view.doubt.map(|what| Doubt { since: view.now.into(), what: what.into() });
        next.doubt = news.or_else(|| self.doubt.clone()).filter(|_| next.held().next().is_some());
        next
    }

    /// The members whose lease is gone.
    pub fn held(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.held_since.is_some())
    }
}

impl Claim {
    fn member(&self) -> Member {
        Member {
            identity: self.identity.clone(),
            subnet: self.subnet,
            floor: self.revision,
            held_since: None,
        }
    }
}

/// What a lease says, or why it is skipped.
fn read(name: &str, value: &[u8], view: &Viewpoint<'_>) -> Result<(Identity, Subnet), String> {
    let subnet: Subnet = name.parse().map_err(|error: super::key::KeyError| error.to_string())?;
    for range in subnet.ranges() {
        let network = view.networks.iter().find(|network| network.is_ipv4() == range.is_ipv4());
        if let Some(&network) = network.filter(|&&network| !ranges::covers(network, range)) {
            return Err(format!("{range} is not in the cluster's network {network}"));
        }
    }
    let identity = value::parse(value).map_err(|error| error.to_string())?;
    if is_tunnelled_only(&identity) && view.own.backend == Backend::HostGw {
        return Err("its backend is \"vxlan\": it is reached with --off-link vxlan".to_owned());
    }
    Ok((identity, subnet))
}

/// Whether a node is reached through its tunnel alone: flannel expects it so, while nodes of ours are
/// reached by routes too.
fn is_tunnelled_only(identity: &Identity) -> bool {
    identity.machine.is_none() && identity.backend != Backend::HostGw
}

/// Against other histories, all that is there now is no evidence.
fn floor(member: &Member, contents: &Contents, view: &Viewpoint<'_>) -> i64 {
    if view.doubt.is_some() { contents.revision } else { member.floor }
}

fn is_gone(name: &str, member: &Member, floor: i64, contents: &Contents, claims: &[Claim]) -> bool {
    let has_left = contents.left.get(name).is_some_and(|sign| {
        let of_it = value::parse(&sign.value).is_ok_and(|it| it.is_same_node(&member.identity));
        of_it && sign.revision > floor
    });
    let range = IpNetwork::V4(member.subnet.v4);
    has_left
        || claims.iter().any(|claim| {
            claim.revision > floor
                && (ranges::overlap(claim.subnet.v4.into(), range)
                    || claim.identity.is_same_node(&member.identity))
        })
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
