//! Ports that somebody has at one address of the host only. Whoever has them at all addresses is in
//! the way of that, and the other way round, though the two are different keys of different maps.
//!
//! So who has a port at one address says so in a chain of the port's name. Neither needs to look
//! first: a transaction that makes a thing and deletes it again holds only if it was not there.

use std::collections::BTreeSet;

use kernel::netlink::Message;
use kernel::nft::{Chain, Expression, Nft, Verdict};
use plugin_interface::Result;

use crate::mapping::{Mapping, Place};
use crate::table::{Maps, TABLE, key};

/// The changes that claim a place beside its key in the map. They do not hold (`EEXIST`) where
/// somebody has the port at all addresses, or for such a place, at one.
pub(crate) fn claim(maps: &Maps, mapping: &Mapping, owner: &str) -> Vec<Message> {
    let place = &mapping.place;
    let name = maps.claims(place);
    let chain = Chain { table: TABLE, name: &name };
    if place.address.is_none() {
        return vec![chain.create(), chain.delete_empty()];
    }
    let anywhere = Place { address: None, ..*place };
    let (map, key) = (maps.of(&anywhere), key(&anywhere));
    let mut changes = map.add_elements(&[key.clone().to_target(mapping.target)]);
    changes.extend(map.delete_elements(&[key]));
    let own = chain.append(&[Expression::Act(Verdict::Return)], owner);
    changes.extend([chain.add(), own]);
    changes
}

/// The changes that give up all claims of an owner to these places.
pub(crate) fn give_up(
    nft: &mut Nft,
    places: &[(&Maps, Place)],
    owner: &str,
) -> Result<Vec<Message>> {
    let addressed = places.iter().filter(|(_, place)| place.address.is_some());
    // One chain may have several of them.
    let names: BTreeSet<_> = addressed.map(|(maps, place)| maps.claims(place)).collect();
    let mut changes = Vec::new();
    for name in names {
        let chain = Chain { table: TABLE, name: &name };
        let rules = nft.rules_of(&chain)?;
        let (own, others): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule.comment == owner);
        changes.extend(own.iter().map(|rule| chain.delete_rule(rule.handle)));
        if others.is_empty() && !own.is_empty() {
            changes.push(chain.delete_empty());
        }
    }
    Ok(changes)
}

/// The owners of a port at one address.
pub(crate) fn owners(nft: &mut Nft, maps: &Maps, place: &Place) -> Result<Vec<String>> {
    let name = maps.claims(place);
    let rules = nft.rules_of(&Chain { table: TABLE, name: &name })?;
    Ok(rules.into_iter().map(|rule| rule.comment).collect())
}
