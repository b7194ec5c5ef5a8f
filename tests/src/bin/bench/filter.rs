//! The programs that set a host's packet filter, as the reference has them.

use std::process::Command;
use std::time::Duration;

use cbr0_tests::node::Node;
use cbr0_tests::require::Part;
use cbr0_tests::{LabError, Result, process};

use crate::suite;

/// Tens of thousands of rules take seconds.
const DEADLINE: Duration = Duration::from_secs(120);

/// Whether they are there.
pub(crate) fn is_there() -> bool {
    Part::Firewall.find().is_some()
}

/// Runs `iptables`, `nft` or the like on a host, with this input.
///
/// # Errors
/// It is not there, or fails.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str, host: &Node) -> Result<()> {
    let missing = || LabError::Wrong(format!("no {program}: scripts/parts firewall fetches it"));
    let path = Part::Firewall.find().ok_or_else(missing)?.join(program);
    let mut command = Command::new(path);
    command.args(arguments).envs(suite::firewall());
    let done = host.netns().run(|| process::run(command, input.as_bytes(), DEADLINE))??;
    if done.status.success() {
        Ok(())
    } else {
        Err(LabError::Wrong(format!("{program} ended with {}: {}", done.status, done.stderr)))
    }
}
