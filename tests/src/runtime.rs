//! A small container runtime: what libcni does with a network configuration list.
//!
//! It negotiates the version, gives each plugin its configuration (name, version, `prevResult`,
//! `runtimeConfig`), runs the plugins in order (DEL: in reverse) as processes inside the host's
//! namespace, and keeps the last result for DEL and CHECK, as libcni's cache does.

mod conf;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::error::{LabError, Result};
use crate::node::Node;
use crate::plugin::{Answer, Call, PluginError};
pub use conf::{Attachment, Network};
use conf::{Extra, conflist_error};

/// A plugin that failed, and what it said.
#[derive(Debug, thiserror::Error)]
#[error("{plugin} {verb} for {container_id:?}: {error}{}", on_stderr(.answer))]
pub struct PluginFailure {
    /// The plugin's type.
    pub plugin: String,
    /// The verb.
    pub verb: String,
    /// The container, empty for GC and STATUS.
    pub container_id: String,
    /// The error, as the plugin reported it.
    pub error: PluginError,
    /// All that the process left behind.
    pub answer: Answer,
}

fn on_stderr(answer: &Answer) -> String {
    let stderr = answer.stderr.trim();
    if stderr.is_empty() { String::new() } else { format!("; on its standard error: {stderr}") }
}

/// A runtime on one host.
#[derive(Debug)]
pub struct Runtime<'a> {
    host: &'a Node,
    /// `CNI_PATH`.
    pub cni_path: Vec<PathBuf>,
    /// `PATH`, if not the test's own.
    pub path: Option<String>,
    /// The last results by network, container and interface: libcni's cache.
    results: BTreeMap<(String, String, String), Value>,
}

impl<'a> Runtime<'a> {
    /// A runtime that takes its plugins from one folder.
    pub fn new(host: &'a Node, plugin_dir: impl Into<PathBuf>) -> Self {
        Runtime { host, cni_path: vec![plugin_dir.into()], path: None, results: BTreeMap::new() }
    }

    /// Runs ADD through the whole list; the last plugin's result.
    ///
    /// # Errors
    /// The first failure. As after libcni, what the plugins before it did stays until DEL.
    pub fn add(&mut self, network: &Network, attachment: &Attachment) -> Result<Value> {
        let mut extra = Extra::new();
        for index in 0..network.plugins.len() {
            let answer = self.run(network, index, "ADD", Some(attachment), &extra)?;
            extra.insert("prevResult".into(), answer.json()?);
        }
        let result =
            extra.remove("prevResult").ok_or_else(|| conflist_error("it has no plugins"))?;
        self.results.insert(key(network, attachment), result.clone());
        Ok(result)
    }

    /// Runs DEL through the list from its end, and forgets the result.
    ///
    /// # Errors
    /// The first failure; the plugins before it in the list have not run then.
    pub fn del(&mut self, network: &Network, attachment: &Attachment) -> Result<()> {
        let extra = self.cached_result(network, attachment);
        for index in (0..network.plugins.len()).rev() {
            self.run(network, index, "DEL", Some(attachment), &extra)?;
        }
        self.results.remove(&key(network, attachment));
        Ok(())
    }

    /// Runs CHECK through the list, with the result of the ADD.
    ///
    /// # Errors
    /// The first failure.
    pub fn check(&self, network: &Network, attachment: &Attachment) -> Result<()> {
        let extra = self.cached_result(network, attachment);
        self.run_all(network, "CHECK", Some(attachment), &extra)
    }

    /// Runs GC through the list: everything of the network goes but `valid`.
    ///
    /// # Errors
    /// The first failure.
    pub fn gc(&self, network: &Network, valid: &[&Attachment]) -> Result<()> {
        let entry = |valid: &&Attachment| json!({"containerID": valid.container_id, "ifname": valid.ifname});
        let valid = Value::Array(valid.iter().map(entry).collect());
        // Under both names, as libcni does: older plugins read the second.
        let names = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        let extra = names.map(|name| (name.to_owned(), valid.clone())).into_iter().collect();
        self.run_all(network, "GC", None, &extra)
    }

    /// Asks every plugin of the list whether it could serve an ADD.
    ///
    /// # Errors
    /// The first failure.
    pub fn status(&self, network: &Network) -> Result<()> {
        self.run_all(network, "STATUS", None, &Extra::new())
    }

    /// The call of one plugin of the list that this runtime would make; for tests that change it
    /// before they run it.
    ///
    /// # Errors
    /// The plugin is in no folder of `cni_path`.
    pub fn call(
        &self,
        network: &Network,
        index: usize,
        verb: &str,
        attachment: Option<&Attachment>,
    ) -> Result<Call> {
        let kind = network.plugin_type(index)?;
        let mut call = Call::new(self.find(kind)?, verb).env("CNI_PATH", self.cni_path_text());
        call = call.stdin_json(&network.stdin(index, attachment, Extra::new()));
        if let Some(path) = &self.path {
            call = call.env("PATH", path);
        }
        Ok(match attachment {
            Some(attachment) => call
                .env("CNI_CONTAINERID", &attachment.container_id)
                .env("CNI_NETNS", &attachment.netns)
                .env("CNI_IFNAME", &attachment.ifname)
                .env("CNI_ARGS", &attachment.args),
            // libcni sets every variable, to nothing where there is nothing to say.
            None => call
                .env("CNI_CONTAINERID", "")
                .env("CNI_NETNS", "")
                .env("CNI_IFNAME", "")
                .env("CNI_ARGS", ""),
        })
    }

    fn run_all(
        &self,
        network: &Network,
        verb: &str,
        attachment: Option<&Attachment>,
        extra: &Extra,
    ) -> Result<()> {
        (0..network.plugins.len())
            .try_for_each(|index| self.run(network, index, verb, attachment, extra).map(drop))
    }

    fn run(
        &self,
        network: &Network,
        index: usize,
        verb: &str,
        attachment: Option<&Attachment>,
        extra: &Extra,
    ) -> Result<Answer> {
        let stdin = network.stdin(index, attachment, extra.clone());
        let answer =
            self.call(network, index, verb, attachment)?.stdin_json(&stdin).run(self.host)?;
        match answer.failure() {
            None => Ok(answer),
            Some(error) => Err(LabError::Plugin(Box::new(PluginFailure {
                plugin: network.plugin_type(index)?.to_owned(),
                verb: verb.to_owned(),
                container_id: attachment
                    .map(|attachment| attachment.container_id.clone())
                    .unwrap_or_default(),
                error,
                answer,
            }))),
        }
    }

    /// The `prevResult` for DEL and CHECK, as libcni takes it from its cache.
    fn cached_result(&self, network: &Network, attachment: &Attachment) -> Extra {
        let cached =
            self.results.get(&key(network, attachment)).filter(|_| network.hands_results_down());
        cached.map(|result| ("prevResult".to_owned(), result.clone())).into_iter().collect()
    }

    fn find(&self, kind: &str) -> Result<PathBuf> {
        let found = self.cni_path.iter().map(|dir| dir.join(kind)).find(|path| path.is_file());
        found.ok_or_else(|| {
            LabError::NotBuilt(self.cni_path.first().cloned().unwrap_or_default().join(kind))
        })
    }

    fn cni_path_text(&self) -> String {
        let folders: Vec<_> = self.cni_path.iter().map(|dir| dir.to_string_lossy()).collect();
        folders.join(":")
    }
}

fn key(network: &Network, attachment: &Attachment) -> (String, String, String) {
    (network.name.clone(), attachment.container_id.clone(), attachment.ifname.clone())
}
