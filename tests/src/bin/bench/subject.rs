//! What can be measured. A new subject is a file with an implementation of [`Subject`], and a line
//! in [`all`].

use cbr0_tests::Result;
use clap::builder::PossibleValuesParser;

use crate::record::{Cost, Unit};
use crate::suite::Suite;
use crate::{bridge, chain, data_path, ipam, portmap, profile, ptp, rates, routes};

/// Something that is measured.
pub(crate) trait Subject {
    /// What it is called on the command line.
    fn name(&self) -> &'static str;

    /// One line about it, for the heading.
    fn about(&self) -> &'static str;

    /// The comparisons it consists of, in their order.
    fn cases(&self, setting: &Setting) -> Vec<Case>;

    /// Comparisons whose turn takes a minute: each is taken once.
    fn long_cases(&self, _setting: &Setting) -> Vec<Case> {
        Vec::new()
    }

    /// What is counted and not timed.
    ///
    /// # Errors
    /// A plugin fails, or the laboratory does.
    fn costs(&self, _setting: &Setting) -> Result<Vec<Cost>> {
        Ok(Vec::new())
    }
}

/// Every subject there is.
pub(crate) fn all() -> Vec<Box<dyn Subject>> {
    vec![
        Box::new(bridge::Bridge),
        Box::new(ptp::Ptp),
        Box::new(ipam::HostLocal),
        Box::new(portmap::Portmap),
        Box::new(chain::Chain),
        Box::new(rates::Rates),
        Box::new(data_path::DataPath),
        Box::new(routes::Routes),
        Box::new(profile::Profile),
    ]
}

/// Their names, for the command line.
pub(crate) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(all().iter().map(|subject| subject.name()).collect::<Vec<_>>())
}

/// What holds for all subjects.
pub(crate) struct Setting {
    /// Who is compared.
    pub(crate) suites: Vec<Suite>,
    /// Whether it is only to be seen that everything works.
    pub(crate) short: bool,
    /// How often each is called, at most.
    pub(crate) runs: usize,
}

/// A comparison: the same work, done by several in turns.
pub(crate) struct Case {
    /// What is done, and under which circumstances.
    pub(crate) title: String,
    /// What the values are.
    pub(crate) unit: Unit,
    /// Builds the scene of each of those compared. It lives as long as the case is measured.
    pub(crate) prepare: Prepare,
}

/// Makes the lanes of a case.
pub(crate) type Prepare = Box<dyn FnOnce() -> Result<Vec<Lane>>>;

/// One of those compared.
pub(crate) struct Lane {
    /// Whose lane it is.
    pub(crate) suite: String,
    /// One turn: what was measured, the same things in each turn.
    pub(crate) turn: Box<dyn FnMut() -> Result<Vec<Sample>>>,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    /// What it is the value of, such as a verb.
    pub(crate) what: &'static str,
    /// In the case's unit.
    pub(crate) value: f64,
}
