//! Those that are compared where the packet filter is set: the reference can do it in two ways.

use crate::subject::Setting;
use crate::suite::{REFERENCE, REFERENCE_DEBIAN, Suite};

/// The label of the reference's release where it sets nf_tables by `nft`.
pub(crate) const REFERENCE_NFT: &str = "reference (nft)";

/// A suite, and what it is told to set the packet filter with.
#[derive(Debug, Clone)]
pub(crate) struct Rival {
    /// Whose plugins; its label tells the backend where that is not the usual one.
    pub(crate) suite: Suite,
    /// Ours accept both, and do the same for both.
    pub(crate) backend: Backend,
}

/// By what program the reference sets the packet filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Its default.
    Iptables,
    /// Of newer releases.
    Nft,
}

impl Backend {
    /// The value of the keys `backend` and `ipMasqBackend`.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Backend::Iptables => "iptables",
            Backend::Nft => "nftables",
        }
    }
}

/// All that have these plugins, each as it works by default. Debian's older release is left out: the
/// CHECK of its portmap wants IPv6, and fails without.
pub(crate) fn by_default(setting: &Setting, plugins: &[&str]) -> Vec<Rival> {
    let has_all = |suite: &&Suite| {
        suite.label != REFERENCE_DEBIAN && plugins.iter().all(|plugin| suite.has(plugin))
    };
    let rival = |suite: &Suite| Rival { suite: suite.clone(), backend: Backend::Iptables };
    setting.suites.iter().filter(has_all).map(rival).collect()
}

/// All that have these plugins, and the reference's release once more with `nft`.
pub(crate) fn by_backend(setting: &Setting, plugins: &[&str]) -> Vec<Rival> {
    let with_nft = |rival: Rival| {
        let mut suite = rival.suite.clone();
        REFERENCE_NFT.clone_into(&mut suite.label);
        let other = Rival { suite, backend: Backend::Nft };
        let is_able = rival.suite.label == REFERENCE;
        [Some(rival), is_able.then_some(other)].into_iter().flatten()
    };
    by_default(setting, plugins).into_iter().flat_map(with_nft).collect()
}
