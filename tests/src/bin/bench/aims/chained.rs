//! Those of the plugins that are chained behind others.

use std::fmt::Write as _;

use super::{median, ratio};
use crate::record::Record;
use crate::rival::REFERENCE_NFT;
use crate::suite::{OURS, REFERENCE};
use crate::{chain, portmap, rates};

/// A line each.
pub(super) fn lines(record: &Record) -> String {
    let mut text = String::new();
    for present in portmap::PRESENT {
        let title = portmap::title(present);
        beside_the_reference(&mut text, record, &title, Some(">= 15"));
    }
    for verb in ["ADD", "DEL"] {
        text.extend(growth(record, verb));
    }
    beside_the_reference(&mut text, record, chain::TITLE, None);
    for limit in rates::LIMITS {
        for direction in rates::DIRECTIONS {
            text.extend(share(record, limit, direction));
        }
    }
    text
}

fn beside_the_reference(text: &mut String, record: &Record, title: &str, aim: Option<&str>) {
    let aim = aim.map(|aim| format!(" (aim: {aim})")).unwrap_or_default();
    for verb in ["ADD", "DEL"] {
        for reference in [REFERENCE, REFERENCE_NFT] {
            if let Some(ratio) = ratio(record, (title, verb), reference, OURS) {
                let _ = writeln!(text, "  {verb} of {title}: {reference} / cbr0: {ratio:.2}{aim}");
            }
        }
    }
}

/// How much longer a verb of portmap takes with most mappings than with none.
fn growth(record: &Record, verb: &str) -> Option<String> {
    let [none, .., most] = portmap::PRESENT;
    let of = |present| median(record, (&portmap::title(present), verb), OURS);
    let grown = of(most)? / of(none)?;
    Some(format!("  {verb} of portmap, {most} mappings / none: {grown:.2} (aim: <= 1.2)\n"))
}

/// How much of a limit is used. A frame's header counts for the limit, and not for TCP.
fn share(record: &Record, limit: u64, direction: &str) -> Option<String> {
    let title = rates::title(limit);
    let percent = |suite| {
        let rate = median(record, (&title, direction), suite)?;
        Some(100.0 * rate / limit as f64)
    };
    let (own, reference) = (percent(OURS)?, percent(REFERENCE)?);
    Some(format!(
        "  {limit} Mbit/s {direction}: cbr0 {own:.1} %, reference {reference:.1} % (aim: as it)\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aims::tests::{case, record};

    #[test]
    fn portmap_is_told_beside_both_backends_and_beside_itself() {
        let text = lines(&record(vec![
            case(&portmap::title(0), &[(OURS, 2.0), (REFERENCE, 50.0), (REFERENCE_NFT, 10.0)]),
            case(&portmap::title(10_000), &[(OURS, 3.0), (REFERENCE, 60.0)]),
            case(chain::TITLE, &[(OURS, 8.0), (REFERENCE, 100.0)]),
        ]));
        for words in [
            "ADD of portmap, 2 ports, 0 mappings present: reference / cbr0: 25.00 (aim: >= 15)",
            "ADD of portmap, 2 ports, 0 mappings present: reference (nft) / cbr0: 5.00",
            "10000 mappings present: reference / cbr0: 20.00",
            "ADD of portmap, 10000 mappings / none: 1.50 (aim: <= 1.2)",
            "tuning: reference / cbr0: 12.50\n",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(text.lines().count(), 5, "{text}");
    }

    #[test]
    fn rates_are_shares_of_their_limit() {
        let mut rates = case(&rates::title(100), &[(OURS, 95.0), (REFERENCE, 94.0)]);
        rates.rows.iter_mut().for_each(|row| row.what = "to the Pod".to_owned());
        let text = lines(&record(vec![rates]));
        assert_eq!(text, "  100 Mbit/s to the Pod: cbr0 95.0 %, reference 94.0 % (aim: as it)\n");
    }
}
