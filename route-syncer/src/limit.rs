//! The limit on the number of routes: who can write to the source cannot fill the kernel's tables.

use std::collections::HashSet;

use ipnetwork::IpNetwork;

use crate::claims::{Judged, Refusal, Verdict};

/// Refuses claims until no more than `most` are left that become routes, the last ones first. Those of
/// ranges that are `routed` already are never refused for it, even if they are more.
pub fn limit(judged: &mut [Judged], most: usize, routed: impl FnOnce() -> HashSet<IpNetwork>) {
    if judged.iter().filter(|one| is_for_a_route(one)).count() <= most {
        return;
    }
    let routed = routed();
    let (settled, new): (Vec<_>, Vec<_>) = judged
        .iter_mut()
        .filter(|one| is_for_a_route(one))
        .partition(|one| routed.contains(&one.claim.cidr));
    for one in new.into_iter().skip(most.saturating_sub(settled.len())) {
        one.verdict = Verdict::Refused(Refusal::TooMany(most));
    }
}

/// Whether it is one, or would be if there was a link.
fn is_for_a_route(judged: &Judged) -> bool {
    !matches!(judged.verdict, Verdict::Own | Verdict::Refused(_))
}
