//! Claims, and whether they are sane: a claim cannot hurt the node that reads it.
//!
//! The kernel accepts a route that takes over half of the Internet, the subnet the nodes live in,
//! or a range of our own Pods. So every claim is judged here before it becomes a route; a refusal
//! has a type and is shown to people, and never touches another claim.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::MacAddress;

use crate::observed::{Address, Link};
use crate::off_link::OffLink;
use crate::ranges::{self, Disjoint};
use crate::source::{HeldNode, Node};

/// The shortest prefix a claim may have. Shorter ones are mistakes that take over other networks.
const SHORTEST_V4: u8 = 8;
const SHORTEST_V6: u8 = 16;

/// One Pod range of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The node that holds the Pods.
    pub node: String,
    /// The range, as claimed.
    pub cidr: IpNetwork,
    /// The node's address of the same family, if it has one.
    pub gateway: Option<IpAddr>,
    /// The end of the tunnel to the node, if it has one.
    pub vtep: Option<MacAddress>,
    /// Since when it is held: the source no longer names the node, but its going is not believed.
    pub held_since: Option<String>,
}

/// What becomes of a claim on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is this node's own range: the bridge has it, no route is needed.
    Own,
    /// It becomes a route.
    Route {
        /// The node's address.
        gateway: IpAddr,
        /// The index of the link that leads there.
        link: u32,
    },
    /// It becomes a route through the tunnel: no live link leads to the gateway.
    Tunnel {
        /// The node's address.
        gateway: IpAddr,
        /// The end of the tunnel there.
        vtep: MacAddress,
    },
    /// It would become a route, but no live link leads to the gateway.
    OffLink {
        /// The node's address.
        gateway: IpAddr,
    },
    /// It is not safe.
    Refused(Refusal),
}

/// Why a claim is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `0.0.0.0/0` or `::/0`.
    #[error("a default route is no Pod range")]
    DefaultRoute,
    /// Shorter than any sane Pod range.
    #[error("wider than /{0}")]
    TooWide(u8),
    /// Bits right of the prefix.
    #[error("host bits are set, did you mean {0}?")]
    HostBits(IpNetwork),
    /// Loopback, multicast, link-local and the like.
    #[error("overlaps {0}, which is never a Pod range")]
    NotUnicast(IpNetwork),
    /// Overlaps what this node's own Pods use.
    #[error("overlaps this node's own range {0}")]
    OwnRange(IpNetwork),
    /// Overlaps a range that was set apart on the command line.
    #[error("overlaps the service range {0}")]
    ServiceRange(IpNetwork),
    /// Overlaps a subnet this node has an address in: the underlay, most often.
    #[error("overlaps the subnet of local address {0}")]
    LocalSubnet(IpNetwork),
    /// In none of the cluster's ranges.
    #[error("not in the cluster: no --cluster-cidr covers it")]
    OutsideCluster,
    /// Overlaps an earlier claim.
    #[error("overlaps {cidr} of {node}, which comes first")]
    Taken {
        /// Who claimed it.
        node: String,
        /// What was claimed.
        cidr: IpNetwork,
    },
    /// The node has no address of the range's family.
    #[error("the node has no {0} address")]
    NoGateway(&'static str),
    /// The gateway is one of our own addresses.
    #[error("gateway {0} is this node's own address (is --node right?)")]
    GatewayIsSelf(IpAddr),
    /// The gateway cannot be a neighbour's address.
    #[error("gateway {0} is not a unicast address of a neighbour")]
    GatewayNotUnicast(IpAddr),
    /// Both would get the packets of one.
    #[error(
        "its end of the tunnel has the hardware address {mac} of that of {node}, which comes first"
    )]
    VtepTaken {
        /// Whose it is.
        node: String,
        /// The hardware address.
        mac: MacAddress,
    },
    /// To reach the gateway one would have to go through the gateway.
    #[error("gateway {0} lies in the range itself")]
    GatewayInside(IpAddr),
    /// There are routes enough.
    #[error("there are {0} routes already; --max-routes allows no more")]
    TooMany(usize),
}

impl Refusal {
    /// The reason in one word, for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::DefaultRoute => "default-route",
            Refusal::TooWide(_) => "too-wide",
            Refusal::HostBits(_) => "host-bits",
            Refusal::NotUnicast(_) => "not-unicast",
            Refusal::OwnRange(_) => "own-range",
            Refusal::ServiceRange(_) => "service-range",
            Refusal::LocalSubnet(_) => "local-subnet",
            Refusal::OutsideCluster => "outside-cluster",
            Refusal::Taken { .. } => "taken",
            Refusal::NoGateway(_) => "no-gateway",
            Refusal::GatewayIsSelf(_) => "gateway-is-self",
            Refusal::GatewayNotUnicast(_) => "gateway-not-unicast",
            Refusal::GatewayInside(_) => "gateway-inside",
            Refusal::VtepTaken { .. } => "vtep-taken",
            Refusal::TooMany(_) => "too-many",
        }
    }

    /// Whether no node at all could claim this range.
    pub fn is_about_the_range(&self) -> bool {
        use Refusal::{DefaultRoute, HostBits, NotUnicast, TooWide};
        matches!(self, DefaultRoute | TooWide(_) | HostBits(_) | NotUnicast(_))
    }
}

/// A claim and its verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The claim.
    pub claim: Claim,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What claims are judged against.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The name of this node.
    pub node: &'a str,
    /// Ranges no Pod may have: the services'.
    pub service_cidrs: &'a [IpNetwork],
    /// The ranges of the cluster; nothing is outside in a family that has none here.
    pub cluster_cidrs: &'a [IpNetwork],
    /// What becomes of claims of nodes that no link leads to.
    pub off_link: OffLink,
    /// This node's links.
    pub links: &'a [Link],
    /// This node's addresses.
    pub addresses: &'a [Address],
}

/// The claims of the nodes of a list, in its order.
pub fn claims(nodes: &[Node]) -> impl Iterator<Item = Claim> {
    nodes.iter().flat_map(|node| claims_of(node, None))
}

/// The claims of nodes that are held.
pub fn held_claims(nodes: &[HeldNode]) -> impl Iterator<Item = Claim> {
    nodes.iter().flat_map(|held| claims_of(&held.node, Some(&held.since)))
}

fn claims_of(node: &Node, held_since: Option<&String>) -> impl Iterator<Item = Claim> {
    node.pod_cidrs.iter().map(move |&cidr| Claim {
        node: node.name.clone(),
        cidr,
        gateway: node.gateway_for(cidr),
        vtep: node.vtep_for(cidr),
        held_since: held_since.cloned(),
    })
}

/// Judges claims, in their order: of two that overlap, the first one wins, on every node alike.
///
/// Only this node's own range comes before all others, wherever it stands in the list: whatever
/// others claim, the Pods that run here stay reachable from here.
pub fn judge(claims: Vec<Claim>, around: &Surroundings<'_>) -> Vec<Judged> {
    let own: Vec<IpNetwork> = claims
        .iter()
        .filter(|claim| claim.node == around.node && check_range(claim.cidr).is_ok())
        .map(|claim| claim.cidr)
        .collect();
    let mut winners = Disjoint::default();
    let mut ends = Ends::default();
    claims
        .into_iter()
        .map(|claim| {
            let verdict = route(&claim, &own, &winners, around);
            let verdict = verdict.and_then(|verdict| ends.note(&claim, verdict));
            let verdict = verdict.unwrap_or_else(Verdict::Refused);
            if !matches!(verdict, Verdict::Own | Verdict::Refused(_)) {
                winners.insert(claim.cidr, claim.node.clone());
            }
            Judged { claim, verdict }
        })
        .collect()
}

fn route(
    claim: &Claim,
    own: &[IpNetwork],
    winners: &Disjoint<String>,
    around: &Surroundings<'_>,
) -> Result<Verdict, Refusal> {
    check_range(claim.cidr)?;
    if claim.node == around.node {
        return Ok(Verdict::Own);
    }
    check_place(claim.cidr, own, around)?;
    if let Some((cidr, node)) = winners.overlapping(claim.cidr) {
        return Err(Refusal::Taken { node: node.clone(), cidr });
    }
    let gateway = check_gateway(claim, around.addresses)?;
    Ok(match link_to(gateway, around.links, around.addresses) {
        Some(link) => Verdict::Route { gateway, link },
        None => match claim.vtep.filter(|_| around.off_link == OffLink::Vxlan) {
            Some(vtep) => Verdict::Tunnel { gateway, vtep },
            None => Verdict::OffLink { gateway },
        },
    })
}

/// Where each end of the tunnel is, and whose it is.
#[derive(Default)]
struct Ends(BTreeMap<(bool, MacAddress), (IpAddr, String)>);

impl Ends {
    /// Notes the end of a claim that goes through the tunnel. The device of a family sends to one
    /// address what is for one hardware address.
    fn note(&mut self, claim: &Claim, verdict: Verdict) -> Result<Verdict, Refusal> {
        if let Verdict::Tunnel { gateway, vtep: mac } = verdict {
            let of_claim = (gateway, claim.node.clone());
            let (at, node) = self.0.entry((gateway.is_ipv4(), mac)).or_insert(of_claim);
            if *at != gateway {
                return Err(Refusal::VtepTaken { node: node.clone(), mac });
            }
        }
        Ok(verdict)
    }
}

/// Is it a range that any node could have?
///
/// # Errors
/// It is not, and why.
pub fn check_range(cidr: IpNetwork) -> Result<(), Refusal> {
    if cidr.prefix() == 0 {
        return Err(Refusal::DefaultRoute);
    }
    let shortest = if cidr.is_ipv4() { SHORTEST_V4 } else { SHORTEST_V6 };
    if cidr.prefix() < shortest {
        return Err(Refusal::TooWide(shortest));
    }
    let network = ranges::network(cidr);
    if network != cidr {
        return Err(Refusal::HostBits(network));
    }
    match ranges::not_unicast().into_iter().find(|&special| ranges::overlap(special, cidr)) {
        Some(special) => Err(Refusal::NotUnicast(special)),
        None => Ok(()),
    }
}

/// Is it a range that another node can have, seen from here?
fn check_place(
    cidr: IpNetwork,
    own: &[IpNetwork],
    around: &Surroundings<'_>,
) -> Result<(), Refusal> {
    if let Some(&own) = own.iter().find(|&&own| ranges::overlap(own, cidr)) {
        return Err(Refusal::OwnRange(own));
    }
    if let Some(&service) = around.service_cidrs.iter().find(|&&s| ranges::overlap(s, cidr)) {
        return Err(Refusal::ServiceRange(service));
    }
    // Addresses of links that are down count too: a link that comes up must not find its subnet
    // taken, and a claim must not be judged by which link happened to be up first.
    match around.addresses.iter().find(|local| ranges::overlap(local.subnet, cidr)) {
        Some(local) => Err(Refusal::LocalSubnet(local.subnet)),
        None => check_inside(cidr, around.cluster_cidrs),
    }
}

fn check_inside(cidr: IpNetwork, cluster: &[IpNetwork]) -> Result<(), Refusal> {
    let mut of_family = cluster.iter().filter(|range| range.is_ipv4() == cidr.is_ipv4()).peekable();
    if of_family.peek().is_none() || of_family.any(|&range| ranges::covers(range, cidr)) {
        Ok(())
    } else {
        Err(Refusal::OutsideCluster)
    }
}

fn check_gateway(claim: &Claim, local: &[Address]) -> Result<IpAddr, Refusal> {
    let family = if claim.cidr.is_ipv4() { "IPv4" } else { "IPv6" };
    let gateway = claim.gateway.ok_or(Refusal::NoGateway(family))?;
    if local.iter().any(|address| address.local == gateway) {
        return Err(Refusal::GatewayIsSelf(gateway));
    }
    // Link-local gateways are among them: without a link they name no one in particular.
    let mut special = ranges::not_unicast().into_iter();
    if gateway.is_unspecified() || special.any(|range| range.contains(gateway)) {
        return Err(Refusal::GatewayNotUnicast(gateway));
    }
    if claim.cidr.contains(gateway) {
        return Err(Refusal::GatewayInside(gateway));
    }
    Ok(gateway)
}

/// The live link on whose subnet the gateway is. Looked up at each sync, never remembered: links
/// come and go. Where several would do: the narrowest subnet, then a link with a carrier, then
/// the lowest index, so that the answer is the same each time.
fn link_to(gateway: IpAddr, links: &[Link], addresses: &[Address]) -> Option<u32> {
    addresses
        .iter()
        .filter(|address| address.subnet.contains(gateway))
        .filter_map(|address| {
            let link = links.iter().find(|link| link.index == address.link && link.up)?;
            Some((address.subnet.prefix(), link.carrier, std::cmp::Reverse(link.index)))
        })
        .max()
        .map(|(_, _, index)| index.0)
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
