//! What a plugin is called for: a configuration, a container, a host.

use cbr0_tests::plugin::Call;
use cbr0_tests::runtime::Attachment;
use cbr0_tests::{LabError, Result};
use serde_json::Value;

use crate::suite::Suite;

/// One plugin of one suite, with its configuration.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Whose plugin.
    pub(crate) suite: Suite,
    /// Its type.
    pub(crate) plugin: &'static str,
    /// Its configuration, complete but for what a verb adds.
    pub(crate) conf: Value,
    /// What the floor is told in place of it.
    pub(crate) floor: Vec<(&'static str, String)>,
}

impl Job {
    /// A call, as a runtime makes it.
    pub(crate) fn call(&self, verb: &str, attachment: &Attachment) -> Call {
        self.call_with(verb, attachment, None)
    }

    /// A call that is given the result of the ADD.
    pub(crate) fn call_with(
        &self,
        verb: &str,
        attachment: &Attachment,
        result: Option<&str>,
    ) -> Call {
        let mut conf = self.conf.clone();
        if let Some(result) = result.and_then(|text| serde_json::from_str(text).ok()) {
            conf["prevResult"] = result;
        }
        let call = self.suite.call(self.plugin, verb).stdin_json(&conf);
        let call = call
            .env("CNI_CONTAINERID", &attachment.container_id)
            .env("CNI_NETNS", &attachment.netns)
            .env("CNI_IFNAME", &attachment.ifname)
            .env("CNI_ARGS", &attachment.args);
        if !self.suite.is_floor() {
            return call;
        }
        self.floor.iter().fold(call, |call, (name, value)| call.env(name, value))
    }

    /// A failure of this job, with its words.
    pub(crate) fn failed(&self, verb: &str, said: &str) -> LabError {
        LabError::Wrong(format!("{} {} {verb}: {said}", self.suite.label, self.plugin))
    }

    /// The size of the binary in bytes.
    pub(crate) fn binary_size(&self) -> Result<u64> {
        let program = self.suite.program(self.plugin);
        let meta = program.metadata().map_err(|source| LabError::Io {
            what: format!("look at {}", program.display()),
            source,
        })?;
        Ok(meta.len())
    }
}
