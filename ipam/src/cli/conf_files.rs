//! The network configurations of a node, as far as `host-local` serves them.

use std::path::{Path, PathBuf};

use cni_conf::conf::NetConf;
use cni_conf::error::CniError;
use cni_conf::json::{DecodeError, Object};
use cni_conf::plugin::Plugin as _;
use cni_conf::version::SpecVersion;
use serde_json::value::RawValue;

use super::CliError;
use super::arguments::Source;
use crate::HostLocal;

/// The names that libcni reads.
const EXTENSIONS: [&str; 3] = ["conf", "conflist", "json"];

/// The files that are meant, in the order in which runtimes read them.
pub(super) fn files(source: &Source) -> Result<Vec<PathBuf>, CliError> {
    let folder = match source {
        Source::File(file) => return Ok(vec![file.clone()]),
        Source::Folder(folder) => folder,
    };
    let failed = |source| CliError::Read {
        path: folder.clone(),
        source,
        remedy: "name the folder of the network configurations with --conf-dir, or one with --conf",
    };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let has_extension = |path: &PathBuf| {
        path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
    };
    paths.retain(has_extension);
    paths.sort();
    Ok(paths)
}

/// The configurations in a file that name `host-local`: those of a list, or the file's only one.
///
/// # Errors
/// Why the file cannot be understood, and what to do about it.
pub(super) fn read(path: &Path) -> Result<Vec<NetConf>, String> {
    let bytes = std::fs::read(path)
        .map_err(|error| format!("cannot be read: {error}; run this as root, or name another"))?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> Result<Vec<NetConf>, String> {
    let file: Object = serde_json::from_slice(bytes)
        .map_err(|error| format!("is no JSON object: {error}; no runtime can read it"))?;
    let refused = |error: DecodeError| text(error.into());
    let name: String = file.get("name").map_err(refused)?.unwrap_or_default();
    let plugins = match file.raw("plugins") {
        Some(_) => file.objects("plugins").map_err(refused)?,
        None => vec![file],
    };
    let mut confs = Vec::new();
    for plugin in &plugins {
        let conf = NetConf::parse(stdin(plugin, &name).as_bytes()).map_err(text)?;
        if conf.ipam_type().map_err(text)?.as_deref() == Some(HostLocal::NAME) {
            confs.push(conf);
        }
    }
    Ok(confs)
}

/// What a runtime would write to the plugin's stdin, but for the version: that says what a result
/// may hold, and no result is asked for here.
fn stdin(plugin: &Object, network: &str) -> String {
    let mut text =
        format!("{{\"cniVersion\": \"{}\", \"name\": {}", SpecVersion::LATEST, quoted(network));
    let is_set =
        |key: &&str| ["cniVersion", "name"].iter().any(|set| key.eq_ignore_ascii_case(set));
    for key in plugin.keys().filter(|key| !is_set(key)) {
        let value = plugin.raw(key).map_or("null", RawValue::get);
        text.push_str(&format!(", {}: {value}", quoted(key)));
    }
    text + "}"
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An error in one line.
pub(super) fn text(error: CniError) -> String {
    let CniError { msg, details, .. } = error;
    if details.is_empty() {
        format!("is refused: {msg}")
    } else {
        format!("is refused: {msg}; {details}")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn names(file: &str) -> Vec<String> {
        parse(file.as_bytes()).unwrap().into_iter().map(|conf| conf.name).collect()
    }

    #[test]
    fn a_list_and_a_single_configuration_are_read() {
        let ours = r#"{"type": "bridge", "ipam": {"type": "host-local"}}"#;
        let others = r#"{"type": "portmap"}, {"type": "x", "ipam": {"type": "static"}}"#;
        let list = format!(r#"{{"name": "a", "cniVersion": "9", "plugins": [{ours}, {others}]}}"#);
        assert_eq!(names(&list), ["a"]);
        assert_eq!(names(r#"{"Name": "b", "IPAM": {"Type": "host-local"}}"#), ["b"]);
        assert!(names(r#"{"name": "c", "type": "loopback"}"#).is_empty());
    }

    #[test]
    fn what_is_no_configuration_is_told_why() {
        for (file, words) in [
            ("", "is no JSON object"),
            ("[]", "is no JSON object"),
            (r#"{"name": 7}"#, "key \"name\""),
            (r#"{"name": "a", "plugins": 7}"#, "key \"plugins\""),
            (r#"{"name": "a", "plugins": [7]}"#, "key \"plugins\""),
            (r#"{"plugins": [{"type": "x"}]}"#, "is refused: "),
            (r#"{"name": "../a", "ipam": {"type": "host-local"}}"#, "../a"),
        ] {
            let error = parse(file.as_bytes()).unwrap_err();
            assert!(error.contains(words), "{file}: {error}");
        }
    }
}
