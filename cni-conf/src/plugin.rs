//! What a plugin is: one value with five verbs.

use std::path::Path;

use crate::attachment::Attachment;
use crate::conf::NetConf;
use crate::env::Env;
use crate::error::CniError;
use crate::result::CniResult;
use crate::version::SpecVersion;

/// A call about one attachment: ADD, DEL or CHECK.
#[derive(Debug, Clone)]
pub struct Call {
    /// The environment, already checked.
    pub env: Env,
    /// The configuration, decoded and with a version the plugin speaks.
    pub conf: NetConf,
    /// Who owns whatever ADD makes: the configuration's network, CNI_CONTAINERID and CNI_IFNAME.
    pub attachment: Attachment,
}

/// A call about the whole network: GC or STATUS.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// The environment, already checked.
    pub env: Env,
    /// The configuration, decoded and with a version the plugin speaks.
    pub conf: NetConf,
}

/// A CNI plugin. [`crate::dispatch`] calls it, with everything refused that can be refused without
/// knowing the plugin's own keys.
///
/// VERSION is answered by the dispatcher from [`Plugin::NAME`] and [`Plugin::VERSIONS`].
pub trait Plugin {
    /// The plugin's `type`, which is the name of its binary.
    const NAME: &'static str;

    /// The spec versions it speaks, oldest first.
    const VERSIONS: &'static [SpecVersion] = &SpecVersion::ALL;

    /// Attaches a container and says what it looks like now.
    ///
    /// `netns` is CNI_NETNS as given: whether it is a network namespace, and not the plugin's own,
    /// is for the plugin to find out before it changes anything.
    ///
    /// # Errors
    /// Whatever goes wrong; nothing of the attempt is left behind then.
    fn add(&self, call: &Call, netns: &Path) -> Result<CniResult, CniError>;

    /// Removes what ADD made, from the attachment's triple alone. `netns` is `None` when CNI_NETNS
    /// is empty and may be a path that is gone; neither is an error.
    ///
    /// # Errors
    /// What could not be removed, after everything else was.
    fn del(&self, call: &Call, netns: Option<&Path>) -> Result<(), CniError>;

    /// Compares what ADD made with what is there.
    ///
    /// # Errors
    /// The first difference found.
    fn check(&self, call: &Call, netns: &Path) -> Result<(), CniError>;

    /// Removes what no valid attachment ([`NetConf::valid_attachments`]) of this network owns.
    ///
    /// # Errors
    /// What could not be removed, after everything else was.
    fn gc(&self, upkeep: &Upkeep) -> Result<(), CniError>;

    /// Says whether the next ADD would work, in constant time.
    ///
    /// # Errors
    /// [`crate::error::Code::NotAvailable`] if it would not.
    fn status(&self, upkeep: &Upkeep) -> Result<(), CniError>;
}
