//! What is done about nodes that no link of this one leads to: those behind a router.

use clap::{Args, ValueEnum};

use crate::claims::{Judged, Verdict};

/// The option that decides about nodes behind a router.
#[derive(Clone, Copy, Debug, Args)]
pub struct OffLinkOptions {
    /// What to do about nodes that are not on a link of this one, but behind a router.
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub off_link: OffLink,
}

/// What becomes of a claim whose node no link leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OffLink {
    /// Make no route to their Pods, and say so in the status.
    #[default]
    Skip,
    /// Reach their Pods through a VXLAN tunnel, as flannel's (VNI 1, UDP port 8472). Nodes on a
    /// link are routed to directly all the same. All nodes must be told so.
    Vxlan,
    /// Do not start with such nodes; of one that comes later, make a problem.
    Fail,
}

/// Nodes behind routers, where there must be none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no link of this node leads to {0}, and --off-link is \"fail\": give this node an address on their \
     link, bring the link up, or start with --off-link vxlan (or skip, without routes to them)"
)]
pub struct OffLinkNodes(String);

impl OffLinkNodes {
    /// The nodes among those judged that no link leads to, if there are any.
    pub fn of(judged: &[Judged]) -> Option<Self> {
        let mut names = Vec::new();
        for Judged { claim, verdict } in judged {
            if let Verdict::OffLink { gateway } = verdict {
                let name = format!("{} ({gateway})", claim.node);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        (!names.is_empty()).then(|| Self(names.join(", ")))
    }
}
