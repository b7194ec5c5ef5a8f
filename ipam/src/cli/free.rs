//! `host-local free`: takes reservations away, by hand.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::Serialize;

use super::arguments::{Free, Place};
use super::reservations::{Reservation, State, stores};
use super::{CliError, FAILURE, Outcome, to_json};
use crate::store::{Entry, Locked, Snapshot, Store};

/// A network while nobody else can change it.
struct Network {
    name: String,
    store: Store,
    locked: Locked,
    snapshot: Snapshot,
}

/// What was freed, or would be.
#[derive(Serialize)]
struct Freed {
    #[serde(flatten)]
    reservation: Reservation,
    freed: bool,
}

/// Everything is looked up, and refused where it must be, before the first removal.
pub(super) fn run(options: &Free) -> Result<Outcome, CliError> {
    let networks = lock_all(&options.place)?;
    let mut outcome = Outcome::default();
    let mut found = Vec::new();
    for address in options.addresses.iter().copied().collect::<BTreeSet<_>>() {
        match find(&networks, address)? {
            Some(reservation) => found.push(reservation),
            None => {
                outcome.code = FAILURE;
                outcome.complain(not_reserved(address, &options.place));
            }
        }
    }
    let mut done = Vec::new();
    for (network, reservation) in found {
        let unreserve = || network.locked.unreserve(reservation.address);
        let removed = if options.dry_run { Ok(()) } else { unreserve() };
        match removed {
            Ok(()) => done.push(Freed { reservation, freed: !options.dry_run }),
            Err(error) => {
                outcome.code = FAILURE;
                outcome.complain(CliError::from(error));
            }
        }
    }
    outcome.stdout =
        if options.json { to_json(&done)? } else { done.iter().map(Freed::line).collect() };
    Ok(outcome)
}

/// All locks are held from the first look to the last removal, so that what is freed is what was
/// looked at. They are taken in the order of the names, and a plugin takes one alone: nobody waits
/// in a circle.
fn lock_all(place: &Place) -> Result<Vec<Network>, CliError> {
    let mut networks = Vec::new();
    for (name, store) in stores(place)? {
        let Some(locked) = store.lock_existing()? else { continue };
        let snapshot = locked.scan()?;
        networks.push(Network { name, store, locked, snapshot });
    }
    Ok(networks)
}

/// The only reservation of the address.
fn find(
    networks: &[Network],
    address: IpAddr,
) -> Result<Option<(&Network, Reservation)>, CliError> {
    let mut found: Vec<(&Network, Reservation)> = Vec::new();
    for network in networks {
        let Some(entry) = network.entry(address) else { continue };
        let Some(reservation) = Reservation::read(&network.name, entry) else { continue };
        if reservation.state == State::Foreign {
            return Err(CliError::Foreign { path: entry.path.clone() });
        }
        found.push((network, reservation));
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(network, _)| network.name.as_str()).collect();
        return Err(CliError::Ambiguous { address, networks: names.join(", ") });
    }
    Ok(found.pop())
}

fn not_reserved(address: IpAddr, place: &Place) -> String {
    let network = place.network.as_ref();
    let of = network.map(|name| format!(" for network {name}")).unwrap_or_default();
    let folder = place.data_dir.display();
    format!("{address} is not reserved{of} in {folder}; host-local ls lists what is")
}

impl Network {
    /// The file where the plugins look for a reservation of the address.
    fn entry(&self, address: IpAddr) -> Option<&Entry> {
        let path = self.store.directory().join(address.to_string());
        self.snapshot.reservations().find(|entry| entry.path == path)
    }
}

impl Freed {
    fn line(&self) -> String {
        let Reservation { network, address, .. } = &self.reservation;
        let (done, was) = if self.freed { ("freed", "was") } else { ("would free", "is") };
        let holder = self.reservation.holder();
        format!("{done} {address} in network {network}: it {was} of {holder}\n")
    }
}
