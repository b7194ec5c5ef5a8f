//! The desired state: which routes this node should have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::claims::{Judged, Verdict};

/// Where the packets to a range go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The other node's address.
    pub gateway: IpAddr,
    /// The index of the link that leads there.
    pub link: u32,
}

/// The routes this node should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The next hop by destination.
    pub routes: BTreeMap<IpNetwork, NextHop>,
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
                    desired.routes.insert(claim.cidr, NextHop { gateway, link });
                }
                Verdict::OffLink { gateway } => {
                    desired.kept.insert((claim.cidr, gateway));
                }
                Verdict::Own | Verdict::Refused(_) => {}
            }
        }
        desired
    }
}
