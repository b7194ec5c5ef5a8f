//! Calls that go on while something else changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cbr0_tests::probe::Endpoint;
use cbr0_tests::{LabError, Result};

use crate::matrix::{Matrix, Party};

/// How many calls there were, and those that did not come as promised.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) made: usize,
    /// One line each.
    pub(crate) lost: Vec<String>,
}

/// Has these parties call each other, round after round, from before `change` begins until one
/// more round has ended after it.
pub(crate) fn during<T>(
    parties: &[Party<'_>],
    change: impl FnOnce() -> Result<T>,
) -> Result<(T, Calls)> {
    let _listening =
        parties.iter().map(|party| Endpoint::serve(party.netns)).collect::<Result<Vec<_>>>()?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let mut calls = Calls::default();
            loop {
                let last = done.load(Ordering::Acquire);
                calls.add(&Matrix::of(parties));
                if last {
                    return calls;
                }
            }
        });
        let changed = change();
        done.store(true, Ordering::Release);
        let died = |_| LabError::Wrong("the thread that called has panicked".to_owned());
        let calls = calling.join().map_err(died)?;
        Ok((changed?, calls))
    })
}

impl Calls {
    fn add(&mut self, matrix: &Matrix) {
        for row in &matrix.rows {
            self.made += row.calls.len();
            let lost = |call: &crate::matrix::Call| {
                let why = call.broken.as_ref()?;
                Some(format!("{} -> {}: {why}", row.caller, call.called))
            };
            self.lost.extend(row.calls.iter().filter_map(lost));
        }
    }
}

#[cfg(test)]
mod tests {
    use cbr0_tests::topology::{self, Topology, node_addresses};
    use cbr0_tests::{Outcome, require};

    use super::*;
    use crate::matrix::Kind;

    #[test]
    fn calls_go_on_and_lost_ones_are_counted() -> Outcome {
        if !require::root()? {
            return Ok(());
        }
        let lab = Topology::create(2)?;
        let party = |number: u8| {
            let (addresses, host) = (node_addresses(number), &lab.nodes[usize::from(number) - 1]);
            let (name, node) = (host.name.clone(), addresses);
            let (kind, netns) = (Kind::Pod, host.netns());
            Party { name, kind, addresses: addresses.into(), node, netns }
        };
        let parties = [party(1), party(2)];
        let ((), calls) = during(&parties, || Ok(()))?;
        assert!(calls.made >= 4 && calls.lost.is_empty(), "{calls:?}");

        let ((), calls) = during(&parties, || {
            lab.nodes.iter().try_for_each(|node| topology::detach(&lab.switch, &node.name))
        })?;
        // At least those of the round after the change: from both, in both families.
        assert!(calls.lost.len() >= 4, "{calls:?}");
        assert!(calls.lost.iter().any(|line| line.starts_with("node1 -> node2")), "{calls:?}");
        Ok(())
    }
}
