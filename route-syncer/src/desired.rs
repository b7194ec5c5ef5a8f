//! The desired state: which routes this node should have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::claims::{Claim, Judged, Verdict};

/// Where the packets to a range go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The other node's address, or through a tunnel the neighbour that stands for the node.
    pub gateway: IpAddr,
    /// The index of the link that leads there.
    pub link: u32,
    /// Whether the gateway is a neighbour there, whatever the addresses say (`onlink`).
    pub on_link: bool,
}

/// The routes this node should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The next hop by destination.
    pub routes: BTreeMap<IpNetwork, NextHop>,
    /// This node's own ranges, if they are to be unreachable where no better route leads.
    pub unreachable: BTreeSet<IpNetwork>,
    /// Routes that are left as they are where they exist: the claim stands, but no live link leads
    /// to its gateway now, so the route can neither be made nor be called wrong.
    pub kept: BTreeSet<(IpNetwork, IpAddr)>,
}

impl Desired {
    /// Folds judged claims into one table. Claims that were accepted do not overlap, so no
    /// destination comes twice.
    pub fn fold(judged: &[Judged]) -> Self {
        let mut desired = Self::default();
        for Judged { claim, verdict } in judged {
            match *verdict {
                Verdict::Route { gateway, link } => {
                    desired.routes.insert(claim.cidr, NextHop { gateway, link, on_link: false });
                }
                Verdict::OffLink { gateway } => {
                    desired.kept.insert((claim.cidr, gateway));
                }
                Verdict::Tunnel { .. } | Verdict::Own | Verdict::Refused(_) => {}
            }
        }
        desired
    }

    /// The same table, with this node's own ranges unreachable where no better route leads. Not one
    /// that has the node's own address in it: it would take its neighbours away.
    #[must_use]
    pub fn with_own_unreachable(mut self, judged: &[Judged]) -> Self {
        let own = judged.iter().filter(|judged| judged.verdict == Verdict::Own);
        let is_apart = |claim: &&Claim| !claim.gateway.is_some_and(|own| claim.cidr.contains(own));
        let claims = own.map(|judged| &judged.claim).filter(is_apart);
        self.unreachable = claims.map(|claim| claim.cidr).collect();
        self
    }

    /// Whether a route of the table is to this destination.
    pub fn leads_to(&self, destination: IpNetwork) -> bool {
        self.routes.contains_key(&destination) || self.unreachable.contains(&destination)
    }
}
