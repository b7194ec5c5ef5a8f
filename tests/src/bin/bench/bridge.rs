//! `bridge` with `host-local`: what every Pod start and end waits for.

use cbr0_tests::Result;
use serde_json::json;

use crate::pods::Work;
use crate::record::Cost;
use crate::subject::{Case, Setting, Subject};

/// The subject `bridge`.
pub(crate) struct Bridge;

impl Subject for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn about(&self) -> &'static str {
        "bridge with host-local: Pods one at a time and at once, on an empty and on a full node"
    }

    fn cases(&self, setting: &Setting) -> Vec<Case> {
        let at_once: &[usize] = if setting.short { &[4] } else { &[16, 32] };
        let crowds: &[u32] = if setting.short { &[20] } else { &[250, 1_000] };
        let mut work = kinds();
        work.extend(at_once.iter().map(|&at_once| {
            let title = format!("{at_once} at once");
            Work { at_once, ..work_of(&title) }
        }));
        work.extend(crowds.iter().map(|&crowd| {
            let title = format!("{crowd} Pods on the node");
            Work { crowd, ..work_of(&title) }
        }));
        work.into_iter().map(|work| work.case(setting)).collect()
    }

    fn costs(&self, setting: &Setting) -> Result<Vec<Cost>> {
        // Under strace, those of the reference that run other programs take a second a call.
        let mut kinds = kinds();
        kinds.truncate(if setting.short { 1 } else { kinds.len() });
        let costs = kinds.iter().map(|work| work.costs(setting)).collect::<Result<Vec<_>>>()?;
        Ok(costs.into_iter().flatten().collect())
    }
}

/// One at a time, on an empty node.
fn kinds() -> Vec<Work> {
    let masquerade = |keys, title| {
        let mut work = work_of(title);
        work.keys["ipMasq"] = json!(true);
        for (key, value) in keys {
            work.keys[key] = json!(value);
        }
        work
    };
    vec![
        work_of("alone"),
        // What the reference takes by default, and what it can take.
        masquerade(vec![], "ipMasq"),
        masquerade(vec![("ipMasqBackend", "nftables")], "ipMasq by nftables"),
        // The first of a network makes what all share, and the last one removes it.
        Work { resident: true, ..masquerade(vec![], "ipMasq, not the only Pod") },
        Work { dual_stack: true, ..work_of("dual stack") },
    ]
}

/// One Pod at a time with a default gateway.
pub(crate) fn work_of(title: &str) -> Work {
    let keys = json!({"bridge": "cbr0", "isDefaultGateway": true});
    Work { keys, ..Work::plain("bridge", title) }
}
