//! `ptp` with `host-local`: a Pod without a bridge.

use cbr0_tests::Result;
use serde_json::json;

use crate::pods::Work;
use crate::record::Cost;
use crate::subject::{Case, Setting, Subject};
use crate::suite::OURS;

/// The subject `ptp`. It is empty where ours is not built.
pub(crate) struct Ptp;

impl Subject for Ptp {
    fn name(&self) -> &'static str {
        "ptp"
    }

    fn about(&self) -> &'static str {
        "ptp with host-local, one Pod at a time"
    }

    fn cases(&self, setting: &Setting) -> Vec<Case> {
        kinds(setting).into_iter().map(|work| work.case(setting)).collect()
    }

    fn costs(&self, setting: &Setting) -> Result<Vec<Cost>> {
        let kinds = kinds(setting);
        let costs = kinds.iter().map(|work| work.costs(setting)).collect::<Result<Vec<_>>>()?;
        Ok(costs.into_iter().flatten().collect())
    }
}

fn kinds(setting: &Setting) -> Vec<Work> {
    let ours = |suite: &&crate::suite::Suite| suite.label == OURS;
    if !setting.suites.iter().find(ours).is_some_and(|suite| suite.has("ptp")) {
        return Vec::new();
    }
    let alone = Work::plain("ptp", "alone");
    let masquerade = Work { keys: json!({"ipMasq": true}), ..Work::plain("ptp", "ipMasq") };
    let mut kinds = vec![alone, masquerade];
    // The reference waits until nobody else is found with the IPv6 address: two seconds a turn.
    if !setting.short {
        kinds.push(Work { dual_stack: true, ..Work::plain("ptp", "dual stack") });
    }
    kinds
}
