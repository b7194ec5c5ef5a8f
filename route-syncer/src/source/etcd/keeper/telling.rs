//! What the rest of the daemon is told, and the log.

use std::collections::HashSet;

use ipnetwork::IpNetwork;
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use super::{End, Keeper};
use crate::source::etcd::own::Lack;
use crate::source::etcd::picture::Picture;
use crate::source::etcd::value::Identity;
use crate::source::{HeldNode, List, Node, Update};

/// How many problems of single keys are shown.
const SHOWN: usize = 5;
/// How many characters are shown of what somebody else wrote: a key may have a million.
const CLIP: usize = 200;

impl Keeper {
    pub(super) fn tell(&mut self, updates: &UnboundedSender<Update>) -> Result<(), End> {
        let list = self.list();
        if self.told.as_ref() == Some(&list) {
            return Ok(());
        }
        let skipped = &self.state.picture.skipped;
        for (name, reason) in
            skipped.iter().filter(|&(n, reason)| self.skipped.get(n) != Some(reason))
        {
            warn!("the lease {} is skipped: {}", clipped(name), clipped(reason));
        }
        self.skipped.clone_from(skipped);
        self.told = Some(list.clone());
        updates.send(Update::Nodes(list)).map_err(|_| End::Deaf)
    }

    /// Everything that is known.
    pub(super) fn list(&self) -> List {
        let picture = &self.state.picture;
        let mut list = List {
            cluster_cidrs: self.state.networks.clone(),
            problems: self.problems(),
            notes: self.note.iter().cloned().collect(),
            absence_is_proven: true,
            ..List::default()
        };
        if let Some(subnet) = self.state.own.or(self.left) {
            list.nodes.push(node(&self.own.name, &self.own, subnet.ranges()));
        }
        let mut names = HashSet::from([self.own.name.as_str()]);
        for (key, member) in &picture.members {
            let Identity { name, .. } = &member.identity;
            // Two machines of one name are two nodes.
            let name = if names.insert(name) { name.clone() } else { format!("{name}@{key}") };
            let node = node(&name, &member.identity, member.subnet.ranges());
            match &member.held_since {
                Some(since) => list.held.push(HeldNode { node, since: since.clone() }),
                None => list.nodes.push(node),
            }
        }
        list
    }

    fn problems(&self) -> Vec<String> {
        let picture: &Picture = &self.state.picture;
        let mut problems = Vec::new();
        problems.extend(self.lack.as_ref().map(ToString::to_string));
        if let Some(Err(error)) = &self.config
            && !matches!(self.lack, Some(Lack::Config(_)))
        {
            problems.push(error.to_string());
        }
        if let Some(doubt) = &picture.doubt {
            problems.push(format!("{}, since {}", doubt.what, doubt.since));
        }
        if !picture.skipped.is_empty() {
            let count = picture.skipped.len();
            let some: Vec<String> = picture
                .skipped
                .iter()
                .take(SHOWN)
                .map(|(k, v)| clipped(k) + ": " + &clipped(v))
                .collect();
            let more = if count > SHOWN { "; …" } else { "" };
            problems.push(format!("{count} leases are skipped: {}{more}", some.join("; ")));
        }
        problems
    }
}

fn node(name: &str, identity: &Identity, pod_cidrs: Vec<IpNetwork>) -> Node {
    let (name, addresses) = (name.to_owned(), identity.addresses());
    Node { name, addresses, pod_cidrs, vteps: Some(identity.backend.vteps()) }
}

/// The beginning of what may be long, with nothing in it that is not for a line of text.
fn clipped(text: &str) -> String {
    let clean: String = text.chars().take(CLIP).flat_map(char::escape_debug).collect();
    if text.chars().nth(CLIP).is_some() { clean + "…" } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_shown_in_short() {
        assert_eq!(clipped("10.0.1.0-24"), "10.0.1.0-24");
        assert_eq!(clipped("a\nb"), "a\\nb");
        assert_eq!(clipped(&"x".repeat(1_000_000)).chars().count(), CLIP + 1);
    }
}
