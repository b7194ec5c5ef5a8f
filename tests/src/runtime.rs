//! A small container runtime: what libcni does with a network configuration list.
//!
//! It negotiates the version, gives each plugin its configuration (name, version, `prevResult`,
//! `runtimeConfig`), runs the plugins in order (DEL: in reverse) as processes inside the host's
//! namespace, and keeps the last result for DEL and CHECK, as libcni's cache does.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cni_conf::version::SpecVersion;
use serde_json::{Map, Value, json};

use crate::error::{LabError, Result};
use crate::node::Node;
use crate::plugin::{Answer, Call, PluginError};

/// Keys that a runtime puts into a plugin's configuration.
type Extra = Map<String, Value>;

/// A network configuration list as a runtime holds it.
#[derive(Debug, Clone)]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// The version that was negotiated.
    pub version: String,
    /// The plugins' configurations, as they stand in the list.
    pub plugins: Vec<Map<String, Value>>,
}

impl Network {
    /// Reads a list; of `cniVersion` and `cniVersions` the newest that cni-conf knows is taken.
    ///
    /// # Errors
    /// [`LabError::Conflist`] for what is no list of plugins with a name.
    pub fn parse(conflist: &str) -> Result<Self> {
        let list =
            serde_json::from_str(conflist).map_err(|error| conflist_error(error.to_string()))?;
        Self::from_value(&list)
    }

    /// As [`Network::parse`], from a list that a test wrote with `json!`.
    ///
    /// # Errors
    /// [`LabError::Conflist`] for what is no list of plugins with a name.
    pub fn from_value(list: &Value) -> Result<Self> {
        let name = list["name"].as_str().ok_or_else(|| conflist_error("it has no name"))?;
        let plugins =
            list["plugins"].as_array().ok_or_else(|| conflist_error("it has no plugins"))?;
        let plugins = plugins.iter().map(|plugin| plugin.as_object().cloned());
        let plugins: Option<Vec<_>> = plugins.collect();
        let plugins =
            plugins.ok_or_else(|| conflist_error("a plugin's configuration is no object"))?;
        Ok(Network { name: name.to_owned(), version: negotiate(list)?, plugins })
    }

    /// The standard input of plugin number `index`; `extra` is what the verb adds to it.
    fn stdin(&self, index: usize, attachment: Option<&Attachment>, extra: Extra) -> Value {
        let mut conf = self.plugins[index].clone();
        conf.insert("name".into(), json!(self.name));
        conf.insert("cniVersion".into(), json!(self.version));
        if let Some(runtime_config) =
            attachment.and_then(|attachment| attachment.runtime_config(&conf))
        {
            conf.insert("runtimeConfig".into(), runtime_config);
        }
        conf.extend(extra);
        Value::Object(conf)
    }

    fn plugin_type(&self, index: usize) -> Result<&str> {
        let kind = self.plugins[index].get("type").and_then(Value::as_str);
        kind.ok_or_else(|| conflist_error(format!("plugin {index} has no type")))
    }

    /// Before 0.4.0, DEL got no `prevResult` and there was no CHECK.
    fn hands_results_down(&self) -> bool {
        !matches!(self.version.as_str(), "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1")
    }
}

fn negotiate(list: &Value) -> Result<String> {
    let one = list.get("cniVersion").into_iter();
    let many = list.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
    let offered: Vec<&str> = one.chain(many).filter_map(Value::as_str).collect();
    if offered.is_empty() {
        return Ok("0.1.0".to_owned());
    }
    let known = offered.iter().filter_map(|version| version.parse::<SpecVersion>().ok());
    let newest = known
        .max()
        .ok_or_else(|| conflist_error(format!("it offers only the versions {offered:?}")))?;
    Ok(newest.to_string())
}

fn conflist_error(why: impl Into<String>) -> LabError {
    LabError::Conflist(why.into())
}

/// What a runtime knows about one attachment of one container.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`; empty when the container is gone.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// What the runtime offers under `runtimeConfig`; a plugin gets what it lists in `capabilities`.
    pub capability_args: Map<String, Value>,
}

impl Attachment {
    /// `eth0` of a container in this namespace.
    pub fn new(container_id: &str, netns: impl Into<PathBuf>) -> Self {
        Attachment {
            container_id: container_id.to_owned(),
            netns: netns.into().to_string_lossy().into_owned(),
            ifname: "eth0".to_owned(),
            args: String::new(),
            capability_args: Map::new(),
        }
    }

    /// The same attachment once its container is gone, as a second DEL names it.
    #[must_use]
    pub fn without_netns(&self) -> Self {
        Attachment { netns: String::new(), ..self.clone() }
    }

    fn runtime_config(&self, conf: &Map<String, Value>) -> Option<Value> {
        let capabilities = conf.get("capabilities")?.as_object()?;
        let wanted = |name: &String| capabilities.get(name).and_then(Value::as_bool) == Some(true);
        let chosen: Map<_, _> = self
            .capability_args
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        (!chosen.is_empty()).then_some(Value::Object(chosen))
    }
}

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
    /// The last results by network, container and interface: libcni's cache.
    results: BTreeMap<(String, String, String), Value>,
}

impl<'a> Runtime<'a> {
    /// A runtime that takes its plugins from one folder.
    pub fn new(host: &'a Node, plugin_dir: impl Into<PathBuf>) -> Self {
        Runtime { host, cni_path: vec![plugin_dir.into()], results: BTreeMap::new() }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offered_version_is_taken() {
        let version = |list: Value| Network::from_value(&list).map(|network| network.version);
        let list = json!({"name": "n", "cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0", "9.0.0"], "plugins": []});
        assert_eq!(version(list).unwrap(), "1.1.0");
        assert_eq!(version(json!({"name": "n", "plugins": []})).unwrap(), "0.1.0");
        assert!(version(json!({"name": "n", "cniVersion": "9.0.0", "plugins": []})).is_err());
    }

    #[test]
    fn a_plugin_gets_the_capabilities_it_lists() {
        let list = json!({"name": "n", "cniVersion": "1.1.0", "plugins": [
            {"type": "a", "capabilities": {"mac": true, "ips": false}},
            {"type": "b"}
        ]});
        let network = Network::from_value(&list).unwrap();
        let mut attachment = Attachment::new("c", "/ns");
        attachment.capability_args.insert("mac".into(), json!("02:00:00:00:00:01"));
        attachment.capability_args.insert("ips".into(), json!(["10.0.0.9/24"]));
        let first = network.stdin(0, Some(&attachment), Extra::new());
        assert_eq!(first["runtimeConfig"], json!({"mac": "02:00:00:00:00:01"}));
        assert_eq!((&first["name"], &first["cniVersion"]), (&json!("n"), &json!("1.1.0")));
        assert_eq!(network.stdin(1, Some(&attachment), Extra::new()).get("runtimeConfig"), None);
    }
}
