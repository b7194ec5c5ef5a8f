//! One call of one plugin binary, with any environment and any input.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::error::{LabError, Result};
use crate::node::Node;
use crate::process::{self, Finished};

/// Longer than any plugin may take; the reference waits up to five seconds for addresses.
const DEADLINE: Duration = Duration::from_secs(60);

/// A call that is being put together.
#[derive(Debug, Clone)]
pub struct Call {
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<String, String>,
    stdin: Vec<u8>,
    wrapper: Vec<String>,
}

impl Call {
    /// A call with `CNI_COMMAND` alone: the test adds what it wants the plugin to see.
    pub fn new(program: impl Into<PathBuf>, verb: &str) -> Self {
        Self::bare(program).env("CNI_COMMAND", verb)
    }

    /// A call without any `CNI_*` variable.
    pub fn bare(program: impl Into<PathBuf>) -> Self {
        Call {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            stdin: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// Gives it arguments: plugins take none, but other programs do.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.env.insert(name.to_owned(), value.as_ref().to_owned());
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// Gives the plugin these bytes to read.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Gives the plugin a configuration to read.
    #[must_use]
    pub fn stdin_json(self, conf: &Value) -> Self {
        self.stdin(conf.to_string())
    }

    /// Runs the plugin as the last arguments of another program, such as `strace`.
    #[must_use]
    pub fn under<S: Into<String>>(mut self, wrapper: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Runs it inside the host's namespace.
    ///
    /// # Errors
    /// It cannot be started, or does not end. A plugin that reports an error is no error here.
    pub fn run(&self, host: &Node) -> Result<Answer> {
        // A child starts in the namespace of the thread that starts it.
        let finished =
            host.netns().run(|| process::run(self.command(), &self.stdin, DEADLINE))??;
        Ok(Answer::from(finished))
    }

    /// The program as it would be started, without its input.
    pub fn command(&self) -> Command {
        let program = self.program.as_os_str();
        let mut words = self.wrapper.iter().map(OsStr::new).chain([program]);
        let mut command = Command::new(words.next().unwrap_or(program));
        command.args(words).args(&self.args).env_clear();
        // The reference plugins look for iptables and nft there.
        if let Some(path) = env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(&self.env);
        command
    }

    /// What it is given to read.
    pub fn input(&self) -> &[u8] {
        &self.stdin
    }
}

/// What a plugin process left behind.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its standard output: a result, an error, or nothing.
    pub stdout: String,
    /// Its standard error: free text.
    pub stderr: String,
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

impl From<Finished> for Answer {
    fn from(finished: Finished) -> Self {
        Answer { stdout: finished.stdout, stderr: finished.stderr, code: finished.status.code() }
    }
}

/// An error as a plugin reports it on its standard output.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("code {code}: {msg}; {details}")]
pub struct PluginError {
    /// The error code of the specification, or the plugin's own.
    pub code: u64,
    /// What failed.
    pub msg: String,
    /// More about it.
    pub details: String,
    /// The version the error is written in; the reference leaves it out.
    pub version: Option<String>,
}

impl Answer {
    /// The standard output as one JSON document.
    ///
    /// # Errors
    /// It is none, or there is more behind it.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).map_err(|error| {
            LabError::Wrong(format!("the plugin printed no JSON document ({error}): {self:?}"))
        })
    }

    /// `None` when the plugin succeeded; else the error it printed. A plugin that failed without
    /// printing one gets code 0, which the specification does not know.
    pub fn failure(&self) -> Option<PluginError> {
        if self.code == Some(0) {
            return None;
        }
        let printed = self.json().unwrap_or_default();
        let text = |key: &str| printed[key].as_str().map(str::to_owned);
        Some(PluginError {
            code: printed["code"].as_u64().unwrap_or(0),
            msg: text("msg").unwrap_or_else(|| format!("it printed no error: {self:?}")),
            details: text("details").unwrap_or_default(),
            version: text("cniVersion"),
        })
    }
}
