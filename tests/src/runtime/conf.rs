//! What a runtime is configured with: the list of plugins, and what it knows about a container.

use std::path::PathBuf;

use cni_conf::version::SpecVersion;
use serde_json::{Map, Value, json};

use crate::error::{LabError, Result};

/// Keys that a runtime puts into a plugin's configuration.
pub(super) type Extra = Map<String, Value>;

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
    pub(super) fn stdin(
        &self,
        index: usize,
        attachment: Option<&Attachment>,
        extra: Extra,
    ) -> Value {
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

    pub(super) fn plugin_type(&self, index: usize) -> Result<&str> {
        let kind = self.plugins[index].get("type").and_then(Value::as_str);
        kind.ok_or_else(|| conflist_error(format!("plugin {index} has no type")))
    }

    /// Before 0.4.0, DEL got no `prevResult` and there was no CHECK.
    pub(super) fn hands_results_down(&self) -> bool {
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

pub(super) fn conflist_error(why: impl Into<String>) -> LabError {
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
