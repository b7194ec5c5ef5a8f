//! What the host must be set to, so that Pods reach each other: each setting is set or checked, can
//! be left alone ([`options`]), and is told in the status and by `check`.
//!
//! Set is what is ours to set: [`forwarding`], and [`accept`] in the packet filter. What belongs to
//! others, or to more than this network namespace, is looked at only, and told with its remedy.

pub mod accept;
pub mod br_netfilter;
pub mod forwarding;
pub mod keeper;
pub mod legacy;
pub mod neighbours;
pub mod networkd;
pub mod options;
pub mod rp_filter;
pub mod situation;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::options::Name;
pub use self::situation::Situation;
use crate::observed::Observed;

/// A setting of the host, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSetting {
    /// Which one.
    pub name: Name,
    /// How it is.
    pub state: SettingState,
    /// More about it: the remedy, if it is lacking.
    pub words: String,
    /// Whether setting it failed, so that it is to be tried again.
    #[serde(skip)]
    pub failed: bool,
}

/// How a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SettingState {
    /// As it should be, or not needed.
    Ok,
    /// As it should be, by us.
    Set,
    /// Not as it should be.
    Lacking,
    /// Left alone, as was asked for.
    Skipped,
}

impl std::fmt::Display for SettingState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SettingState::Ok => "ok",
            SettingState::Set => "set",
            SettingState::Lacking => "lacking",
            SettingState::Skipped => "skipped",
        })
    }
}

/// What was found out about a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    state: SettingState,
    words: String,
    failed: bool,
}

impl Finding {
    /// It is as it should be.
    pub fn ok(words: impl Into<String>) -> Self {
        Self { state: SettingState::Ok, words: words.into(), failed: false }
    }

    /// It is so by us, since now.
    pub fn set(words: impl Into<String>) -> Self {
        Self { state: SettingState::Set, ..Self::ok(words) }
    }

    /// It is not as it should be.
    pub fn lacking(words: impl Into<String>) -> Self {
        Self { state: SettingState::Lacking, ..Self::ok(words) }
    }

    /// It could not be set, or not be looked at.
    pub fn failed(words: impl Into<String>) -> Self {
        Self { failed: true, ..Self::lacking(words) }
    }
}

/// Whether what can be set is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the daemon does.
    Set,
    /// As `check` does.
    Look,
}

/// Sets or checks each setting, but those to skip.
pub fn settle(
    situation: &Situation,
    observed: &Observed,
    skipped: &[Name],
    mode: Mode,
) -> Vec<HostSetting> {
    let setting = |name: Name| {
        let Finding { state, words, failed } = if skipped.contains(&name) {
            Finding { state: SettingState::Skipped, ..Finding::ok("") }
        } else {
            find(name, situation, observed, mode)
        };
        HostSetting { name, state, words, failed }
    };
    Name::ALL.map(setting).to_vec()
}

fn find(name: Name, situation: &Situation, observed: &Observed, mode: Mode) -> Finding {
    match name {
        Name::Forwarding => forwarding::settle(situation.families, observed, mode),
        Name::ForwardAccept => accept::settle(&situation.own, mode),
        Name::RpFilter => rp_filter::check(&situation.links),
        Name::BrNetfilter => br_netfilter::check(situation.families),
        Name::Neighbours => neighbours::check(situation.families, situation.nodes),
        Name::Networkd => networkd::check(Path::new("/"), &situation.links),
    }
}
