//! `host-local ls`: what is reserved.

use super::arguments::Ls;
use super::reservations::{Reservation, nothing_there, stores};
use super::table::table;
use super::{CliError, Outcome, to_json};

const HEADER: [&str; 6] = ["NETWORK", "ADDRESS", "CONTAINER", "INTERFACE", "SINCE", "NOTE"];

pub(super) fn run(options: &Ls) -> Result<Outcome, CliError> {
    let mut outcome = Outcome::default();
    let stores = stores(&options.place)?;
    if stores.is_empty() {
        outcome.complain(nothing_there(&options.place));
    }
    let mut reservations = Vec::new();
    for (network, store) in stores {
        let Some(locked) = store.lock_existing()? else { continue };
        let snapshot = locked.scan()?;
        let found = snapshot.reservations();
        reservations.extend(found.filter_map(|entry| Reservation::read(&network, entry)));
    }
    reservations.sort();
    outcome.stdout =
        if options.json { to_json(&reservations)? } else { table(HEADER, &rows(&reservations)) };
    Ok(outcome)
}

fn rows(reservations: &[Reservation]) -> Vec<[String; 6]> {
    let row = |reservation: &Reservation| {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        [
            reservation.network.clone(),
            reservation.address.to_string(),
            text(&reservation.container_id),
            text(&reservation.ifname),
            text(&reservation.since),
            reservation.state.note().to_owned(),
        ]
    };
    reservations.iter().map(row).collect()
}
