//! What must hold, one file a scenario.

mod comeback;
mod dns;
mod entries;
mod full;
mod network;
mod proxies;
mod services;
mod told;
mod upsets;

use cbr0_tests::Result;

use crate::lab::Lab;

/// A scenario: its number, and what it does.
type Scenario = (u8, fn(&mut Lab) -> Result<()>);

/// In the order of running: the first one gives the cluster its network.
const ALL: [Scenario; 8] = [
    (1, network::run),
    (2, services::run),
    (3, entries::run),
    (4, dns::endpoints),
    (5, dns::names),
    (6, told::run),
    (7, proxies::run),
    (8, upsets::run),
];

/// Runs those that are asked for; none is all. What failed can be kept, to be looked at.
pub(crate) fn run(lab: &mut Lab, wanted: &[u8], keep: bool) {
    for (number, scenario) in ALL {
        if number != 1 && !wanted.is_empty() && !wanted.contains(&number) {
            continue;
        }
        // What fails is in the table, and said already.
        let began = lab.begin(number).and_then(|()| scenario(lab));
        if let Err(error) = began {
            crate::say(&format!("{number}  ended: {error}"));
            if keep {
                continue;
            }
        }
        if let Err(error) = lab.end() {
            crate::say(&format!("{number}  is not removed: {error}"));
        }
    }
}
