//! Chains that are one owner's, and the rules of a shared chain that lead to them.

use std::net::IpAddr;

use kernel::netlink::Message;
use kernel::nft::{Chain, Family, Field, Nft, RuleInfo, Table};
use nix::errno::Errno;

use crate::error::Result;

/// How often a change is tried that others get in the way of.
const TRIES: usize = 5;

/// The chains of an owner. Every rule that is the owner's has the owner's comment, in the owner's
/// chains and in the shared one.
#[derive(Debug)]
pub(super) struct Chains {
    pub(super) family: Family,
    pub(super) table: &'static str,
    /// The shared chain that leads to the first of the owner's.
    pub(super) entrance: &'static str,
    /// The owner's, each of which leads to the next.
    pub(super) names: Vec<String>,
    pub(super) comment: String,
}

impl Chains {
    /// The chain without which there is nothing of the owner's.
    pub(super) fn first(&self) -> Chain<'_> {
        self.chain(self.names.first().map(String::as_str).unwrap_or_default())
    }

    /// Removes what is the owner's, but for what an address in use still needs. A chain that has
    /// other rules besides, or that others lead to, stays without the owner's.
    pub(super) fn remove(&self, nft: &mut Nft, in_use: &[IpAddr]) -> Result<()> {
        let mut delete_chains = true;
        for _ in 0..TRIES {
            let changes = self.removal(nft, in_use, delete_chains)?;
            match nft.commit(&changes) {
                // Somebody else has just removed some of it: what is left is looked at again.
                Err(error) if error.is(Errno::ENOENT) => {}
                Err(error) if error.is(Errno::EBUSY) && delete_chains => delete_chains = false,
                done => return Ok(done?),
            }
        }
        Ok(())
    }

    /// The addresses that lead to the owner's chains, where the packets of an address do.
    pub(super) fn sources(&self, nft: &mut Nft) -> Result<Vec<IpAddr>> {
        let entries = nft.rules_of(&self.chain(self.entrance))?.into_iter();
        let entries = entries.filter(|rule| self.is_entry(rule));
        Ok(entries.filter_map(|rule| rule.address(Field::Source)).collect())
    }

    fn removal(
        &self,
        nft: &mut Nft,
        in_use: &[IpAddr],
        delete_chains: bool,
    ) -> Result<Vec<Message>> {
        let entrance = self.chain(self.entrance);
        let entries = nft.rules_of(&entrance)?.into_iter().filter(|rule| self.is_entry(rule));
        let needed = |rule: &RuleInfo| {
            rule.address(Field::Source).is_some_and(|address| in_use.contains(&address))
        };
        let (needed, gone): (Vec<_>, Vec<_>) = entries.partition(needed);
        let mut changes: Vec<_> =
            gone.iter().map(|rule| entrance.delete_rule(rule.handle)).collect();
        if needed.is_empty() {
            for name in &self.names {
                let chain = self.chain(name);
                let rules = nft.rules_of(&chain)?.into_iter();
                let own = rules.filter(|rule| rule.comment == self.comment);
                changes.extend(own.map(|rule| chain.delete_rule(rule.handle)));
            }
            if delete_chains {
                changes.extend(self.names.iter().map(|name| self.chain(name).delete_empty()));
            }
        }
        Ok(changes)
    }

    fn is_entry(&self, rule: &RuleInfo) -> bool {
        rule.comment == self.comment && rule.leads_to().as_ref() == self.names.first()
    }

    fn chain<'a>(&'a self, name: &'a str) -> Chain<'a> {
        Chain { table: Table { family: self.family, name: self.table }, name }
    }
}
