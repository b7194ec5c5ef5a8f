//! The plain model: who has which address, and what follows from it for each verb.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cbr0_tests::Result;

use super::shape::Shape;
use crate::fixture::{DUPLICATE, FULL, Holder, Network, ensure};

/// An address asked for that somebody has.
pub(crate) const TAKEN: &str = "is not available in range set";
/// An address asked for that is a gateway's.
pub(crate) const GATEWAY: &str = "is subnet's gateway";

/// The reservations of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// The content of each reservation: a holder's, or a container's alone as old versions wrote.
    pub(crate) held: BTreeMap<IpAddr, String>,
    /// Reservations without content, which are nobody's.
    pub(crate) empty: BTreeSet<IpAddr>,
}

impl State {
    /// What the directory says, in which nothing else may lie.
    pub(crate) fn of(network: &Network) -> Result<State> {
        let strays = network.strays()?;
        ensure(strays.is_empty(), || format!("{strays:?} lie in the network's directory"))?;
        let mut state = State::default();
        for (address, content) in network.reservations()? {
            if content.is_empty() {
                state.empty.insert(address);
            } else {
                state.held.insert(address, content);
            }
        }
        Ok(state)
    }

    /// The addresses that may be a holder's: its own, and those of its container alone.
    pub(crate) fn addresses_of(&self, holder: &Holder) -> Vec<IpAddr> {
        let contents = holder.contents();
        let is_of = |content: &str| content == contents || content == holder.container;
        self.held.iter().filter(|(_, content)| is_of(content)).map(|(ip, _)| *ip).collect()
    }

    /// Every reason for which an ADD is to be refused; without one it must succeed. `taken` says
    /// which addresses cannot be given: the reference takes those without content for somebody's.
    pub(crate) fn refusals(
        &self,
        shape: &Shape,
        holder: &Holder,
        wish: Option<IpAddr>,
        taken: impl Fn(&IpAddr) -> bool,
    ) -> Vec<&'static str> {
        let mut refusals = Vec::new();
        if !self.addresses_of(holder).is_empty() {
            refusals.push(DUPLICATE);
        }
        if wish.is_some_and(|wish| shape.gateways.contains(&wish)) {
            refusals.push(GATEWAY);
        }
        for pool in &shape.pools {
            match pool.iter().find(|(address, _)| Some(*address) == wish) {
                Some((wish, _)) if taken(wish) => refusals.push(TAKEN),
                None if pool.iter().all(|(address, _)| taken(address)) => refusals.push(FULL),
                _ => {}
            }
        }
        refusals
    }

    /// After a DEL: the holder's own are gone or, if it had none, those of its container alone.
    pub(crate) fn without(&self, holder: &Holder) -> State {
        let contents = holder.contents();
        let has_own = self.held.values().any(|content| *content == contents);
        let gone = if has_own { &contents } else { &holder.container };
        let mut state = self.clone();
        state.held.retain(|_, content| content != gone);
        state
    }

    /// After a GC.
    pub(crate) fn only(&self, valid: &[Holder]) -> State {
        let is_valid = |content: &String| {
            valid.iter().any(|holder| *content == holder.contents() || *content == holder.container)
        };
        let mut state = State { empty: BTreeSet::new(), ..self.clone() };
        state.held.retain(|_, content| is_valid(content));
        state
    }
}
