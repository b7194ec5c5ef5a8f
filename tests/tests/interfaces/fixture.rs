//! What the tests of several plugins use.

use cbr0_tests::plugin::PluginError;
use cbr0_tests::runtime::Network;
use cbr0_tests::sample::{Sample, Scene};
use cbr0_tests::{LabError, Result};
use kernel::link::Link;
use kernel::netlink::Message;
use kernel::{NetNs, Rtnl};
use serde_json::Value;

/// A scene in the newest version; `None` on a machine where it cannot be.
pub(crate) fn scene(sample: &Sample) -> Result<Option<Scene>> {
    Ok(if sample.can_run()? { Some(Scene::new(sample, "1.1.0")?) } else { None })
}

/// The scene's network with other values for these keys of the plugin.
pub(crate) fn with(network: &Network, keys: &Value) -> Network {
    let mut changed = network.clone();
    changed.plugins[0].extend(keys.as_object().unwrap().clone());
    changed
}

/// The link of this name in a namespace.
pub(crate) fn link(netns: &NetNs, name: &str) -> Result<Option<Link>> {
    Ok(Rtnl::open_in(netns)?.link_by_name(name)?)
}

/// The error of a call that must fail.
#[track_caller]
pub(crate) fn refused<T>(call: Result<T>) -> PluginError {
    match call {
        Err(LabError::Plugin(failure)) => failure.error,
        Err(error) => panic!("failed, but not by the plugin: {error}"),
        Ok(_) => panic!("succeeded, but was expected to fail"),
    }
}

/// Asserts code and words of an error.
#[track_caller]
pub(crate) fn assert_error(error: &PluginError, code: u64, words: &str) {
    let text = format!("{}; {}", error.msg, error.details);
    assert!(
        error.code == code && text.contains(words),
        "expected code {code} and {words:?}, got: {error}"
    );
    assert_eq!(error.version.as_deref(), Some("1.1.0"));
}

/// Sends a request about the link of this name in a namespace.
pub(crate) fn change(
    netns: &NetNs,
    name: &str,
    message: impl FnOnce(u32) -> Message,
) -> Result<()> {
    let mut rtnl = Rtnl::open_in(netns)?;
    let index = rtnl.link_by_name(name)?.unwrap().index;
    Ok(rtnl.request(&message(index))?)
}
