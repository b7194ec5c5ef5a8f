//! What the Go reference plugins leave in the packet filter for an attachment, so that a node can
//! be switched in place: a DEL of ours ends what an ADD of theirs began.
//!
//! Their rules are found by the names and comments that they derive from the attachment
//! ([`names`]), and nothing else is needed. What is not this attachment's stays, whatever chain it
//! is in, and so do the tables and chains that their plugins share.
//!
//! The rules of `iptables-nft` are rules of nf_tables, so only those of `iptables-legacy` cost a
//! program ([`legacy`]), and only where its table is. A DEL of an attachment that has nothing of
//! all this asks for the chains by name, in one datagram.

mod chains;
mod legacy;
mod lines;
mod listing;
mod masquerade;
mod names;
mod spoof_check;

use std::net::IpAddr;
use std::path::Path;

use cni_conf::attachment::Attachment;
use cni_conf::plugin::Call;
use kernel::nft::{Chain, Family, Nft};

use crate::error::{Error, Result};
use crate::{Container, Valid};
use chains::Chains;
pub use lines::LegacyTable;
pub use listing::Rule as LegacyRule;
use masquerade::Rules;
pub use names::hash;

/// What a reference plugin makes in the packet filter besides the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ipMasq`, whatever its backend.
    Masquerade,
    /// `macspoofchk` of the bridge.
    SpoofCheck,
}

/// The DEL that something is removed in.
#[derive(Clone, Copy)]
struct Removal<'a> {
    call: &'a Call,
    netns: Option<&'a Path>,
    of_reference: bool,
}

impl Removal<'_> {
    /// The addresses of the interfaces that the container still has.
    fn addresses_in_use(self) -> Result<Vec<IpAddr>> {
        let Some(mut container) = Container::find(self.call, self.netns)? else {
            return Ok(Vec::new());
        };
        let found = container.rtnl.addresses(0)?;
        Ok(found.iter().map(|found| found.address.ip()).collect())
    }
}

/// One thing that may be left.
enum Leftover {
    Chains(Chains),
    Rules(Rules),
}

impl Leftover {
    /// The chain without which there is none of it.
    fn chain(&self) -> Chain<'_> {
        match self {
            Leftover::Chains(chains) => chains.first(),
            Leftover::Rules(rules) => rules.chain(),
        }
    }

    fn remove(&self, nft: &mut Nft, removal: Removal<'_>) -> Result<()> {
        match self {
            Leftover::Chains(chains) => chains.remove(nft, &removal.addresses_in_use()?),
            Leftover::Rules(rules) => rules.remove(nft),
        }
    }
}

/// Removes what the reference plugin left for this attachment, whose links are gone already;
/// `of_reference` says whether one of them was certainly made by the reference plugin.
///
/// Its iptables rules are keyed by network and container, but not by interface. So what masquerades
/// an address that the container still has stays: it is another interface's. (The reference empties
/// the chain for all, and then fails because it cannot delete it.)
///
/// # Errors
/// Something is left, as far as can be known; the rest is gone.
pub fn remove(call: &Call, netns: Option<&Path>, of_reference: bool, kinds: &[Kind]) -> Result<()> {
    let removal = Removal { call, netns, of_reference };
    let leftovers: Vec<_> = kinds
        .iter()
        .flat_map(|kind| match kind {
            Kind::Masquerade => masquerade::leftovers(&call.attachment),
            Kind::SpoofCheck => spoof_check::leftovers(&call.attachment),
        })
        .collect();
    let of_legacy = leftovers.iter().map(|leftover| match leftover {
        Leftover::Chains(chains) => legacy::remove(chains, removal),
        Leftover::Rules(_) => Ok(()),
    });
    Error::all([remove_present(&leftovers, removal)].into_iter().chain(of_legacy))
}

/// Removes what the reference plugin left for attachments of the network that are not valid.
///
/// What iptables has of a container goes when none of its attachments is valid. Beyond this are
/// [`Kind::SpoofCheck`], whose names do not tell the network, and iptables chains without rules.
///
/// # Errors
/// As [`remove`].
pub fn collect(valid: &Valid<'_>) -> Result<()> {
    let of_nft = || match open()? {
        Some(mut nft) => masquerade::collect(&mut nft, valid),
        None => Ok(()),
    };
    let of_legacy = [Family::Ip, Family::Ip6].map(|family| legacy::collect(family, valid));
    Error::all([of_nft()].into_iter().chain(of_legacy))
}

/// Whether the reference plugin masquerades the addresses of an attachment, with whatever backend.
///
/// # Errors
/// The packet filter cannot be asked.
pub fn masquerades(attachment: &Attachment, addresses: &[IpAddr]) -> Result<bool> {
    let mut sources = match open()? {
        Some(mut nft) => masquerade::sources(&mut nft, attachment)?,
        None => Vec::new(),
    };
    if !addresses.iter().all(|address| sources.contains(address)) {
        for family in [Family::Ip, Family::Ip6] {
            sources.extend(legacy::sources(&masquerade::chains_of(family, attachment))?);
        }
    }
    Ok(addresses.iter().all(|address| sources.contains(address)))
}

/// The addresses that the reference plugin masquerades in the name of an attachment, with whatever
/// backend. What it has made with an iptables is the container's, whichever interface it is of; and
/// where a program would be needed that is not there, nothing is known.
///
/// # Errors
/// The packet filter cannot be asked.
pub fn masqueraded(attachment: &Attachment) -> Result<Vec<IpAddr>> {
    let mut sources = match open()? {
        Some(mut nft) => masquerade::sources(&mut nft, attachment)?,
        None => Vec::new(),
    };
    for family in [Family::Ip, Family::Ip6] {
        let of_legacy = legacy::sources(&masquerade::chains_of(family, attachment));
        sources.extend(of_legacy.unwrap_or_default());
    }
    Ok(sources)
}

fn remove_present(leftovers: &[Leftover], removal: Removal<'_>) -> Result<()> {
    let Some(mut nft) = open()? else { return Ok(()) };
    let chains: Vec<_> = leftovers.iter().map(Leftover::chain).collect();
    let there = nft.exist(&chains)?;
    let present = leftovers.iter().zip(there).filter_map(|(one, there)| there.then_some(one));
    Error::all(present.map(|leftover| leftover.remove(&mut nft, removal)))
}

/// A socket, unless this kernel has no nf_tables and so no rules in them.
fn open() -> Result<Option<Nft>> {
    match Nft::open() {
        Err(error) if error.is_unsupported() => Ok(None),
        opened => Ok(Some(opened?)),
    }
}
