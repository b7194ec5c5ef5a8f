//! The daemon's view of the host's settings: looked at when something may have changed, and never
//! only because there is a sync.

use tracing::{info, warn};

use super::{HostSetting, Mode, Name, SettingState, Situation, settle};
use crate::observed::Observed;

/// Keeps the settings.
#[derive(Debug, Default)]
pub struct Keeper {
    skipped: Vec<Name>,
    /// What the settings were looked at for; none if that has to be done again.
    seen: Option<Situation>,
    settings: Vec<HostSetting>,
}

impl Keeper {
    /// Leaves these alone.
    pub fn new(skipped: Vec<Name>) -> Self {
        Self { skipped, ..Self::default() }
    }

    /// Something may have changed.
    pub fn distrust(&mut self) {
        self.seen = None;
    }

    /// The settings as they are.
    pub fn settings(&self) -> &[HostSetting] {
        &self.settings
    }

    /// Makes them as they should be, as far as they are ours to make. Returns what went wrong, and
    /// is to be tried again.
    pub fn keep(&mut self, situation: &Situation, observed: &Observed) -> Vec<String> {
        if self.seen.as_ref() != Some(situation) {
            let found = settle(situation, observed, &self.skipped, Mode::Set);
            let before = std::mem::take(&mut self.settings);
            self.settings = found.into_iter().map(|found| since(&before, found)).collect();
            log_news(&before, &self.settings);
            self.seen = Some(situation.clone());
        }
        let failed: Vec<_> = self.settings.iter().filter(|setting| setting.failed).collect();
        if !failed.is_empty() {
            self.seen = None;
        }
        failed.into_iter().map(|setting| setting.words.clone()).collect()
    }
}

/// What was set stays told as set while it is so.
fn since(before: &[HostSetting], found: HostSetting) -> HostSetting {
    let set = before.iter().find(|old| old.name == found.name && old.state == SettingState::Set);
    match set {
        Some(old) if found.state == SettingState::Ok => old.clone(),
        _ => found,
    }
}

fn log_news(before: &[HostSetting], now: &[HostSetting]) {
    for setting in now.iter().filter(|setting| !before.contains(setting)) {
        let HostSetting { name, words, .. } = setting;
        match setting.state {
            SettingState::Set => info!("host setting {name}: {words}"),
            // What failed is a problem, and told as one.
            SettingState::Lacking if !setting.failed => warn!("host setting {name}: {words}"),
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn setting(state: SettingState, words: &str) -> HostSetting {
        HostSetting { name: Name::Forwarding, state, words: words.into(), failed: false }
    }

    #[test]
    fn what_was_set_stays_told_as_set_until_it_is_lacking() {
        let set = setting(SettingState::Set, "turned on");
        let (fine, lacking) =
            (setting(SettingState::Ok, ""), setting(SettingState::Lacking, "off"));
        assert_eq!(since(std::slice::from_ref(&set), fine.clone()), set);
        assert_eq!(since(std::slice::from_ref(&set), lacking.clone()), lacking);
        assert_eq!(since(std::slice::from_ref(&lacking), fine.clone()), fine);
    }

    #[test]
    fn what_is_skipped_is_neither_set_nor_checked() {
        let observed = Observed::default();
        let mut keeper = Keeper::new(Name::ALL.to_vec());
        assert_eq!(keeper.keep(&Situation::default(), &observed), [""; 0]);
        let states: Vec<_> = keeper.settings().iter().map(|setting| setting.state).collect();
        assert_eq!(states, [SettingState::Skipped; 6]);
    }
}
