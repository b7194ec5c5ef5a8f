//! What the network configuration asks of this plugin.

use std::path::PathBuf;

use cni_conf::conf::NetConf;
use cni_conf::error::CniError;
use cni_conf::names::check_ifname;
use kernel::MacAddress;
use plugin_interface::{Error, Result};

/// Where the kernel shows its devices.
const DEVICES: &str = "/sys/devices/";

/// By what the device is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Conf {
    /// `device`: its name.
    Name(String),
    /// `hwaddr`: its hardware address.
    Mac(MacAddress),
    /// `kernelpath`: its folder below `/sys/devices`.
    Path(PathBuf),
    /// `runtimeConfig.deviceID` or `pciBusID`: its place on the PCI or the auxiliary bus.
    Bus(String),
}

impl Conf {
    /// Reads and checks the plugin's keys; what the runtime says comes first.
    pub(crate) fn parse(conf: &NetConf) -> Result<Conf> {
        let text = |key| Ok(conf.get::<String>(key)?.filter(|text| !text.is_empty()));
        let runtime: Option<String> =
            conf.runtime_config()?.get("deviceID").map_err(CniError::from)?;
        if let Some(id) = runtime.filter(|id| !id.is_empty()) {
            return bus_id("runtimeConfig.deviceID", id);
        }
        let keys: [Result<Option<String>>; 4] =
            [text("device"), text("hwaddr"), text("kernelpath"), text("pciBusID")];
        let [device, hwaddr, path, bus] = keys;
        match (device?, hwaddr?, path?, bus?) {
            (Some(name), ..) => device_name(name),
            (_, Some(mac), ..) => hardware_address(&mac),
            (_, _, Some(path), _) => kernel_path(&path),
            (.., Some(id)) => bus_id("pciBusID", id),
            _ => {
                let reason =
                    "specify either \"device\", \"hwaddr\", \"kernelpath\" or \"pciBusID\"";
                Err(wrong("device", "", reason))
            }
        }
    }
}

fn device_name(name: String) -> Result<Conf> {
    check_ifname(&name).map_err(|error| wrong("device", &name, &error.to_string()))?;
    Ok(Conf::Name(name))
}

fn hardware_address(text: &str) -> Result<Conf> {
    let mac: std::result::Result<MacAddress, _> = text.parse();
    mac.map(Conf::Mac).map_err(|error| wrong("hwaddr", text, &error.to_string()))
}

fn kernel_path(text: &str) -> Result<Conf> {
    let path = PathBuf::from(text);
    let leaves = path.components().any(|part| part == std::path::Component::ParentDir);
    if !path.starts_with(DEVICES) || leaves {
        let reason = format!("must be absolute and begin with {DEVICES}");
        return Err(wrong("kernelpath", text, &reason));
    }
    Ok(Conf::Path(path))
}

fn bus_id(key: &'static str, id: String) -> Result<Conf> {
    if id.contains('/') || id == "." || id == ".." {
        return Err(wrong(key, &id, "is no device's name on a bus, such as \"0000:00:1f.6\""));
    }
    Ok(Conf::Bus(id))
}

/// An error that names the key, its value and the rule.
pub(crate) fn wrong(key: &'static str, value: &str, reason: &str) -> Error {
    Error::Config { key, value: format!("{value:?}"), reason: reason.into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Conf> {
        let text =
            format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "host-device" {keys}}}"#);
        Conf::parse(&NetConf::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn a_device_is_known_in_four_ways_and_the_runtimes_comes_first() {
        assert_eq!(parse(r#", "device": "dev0""#).unwrap(), Conf::Name("dev0".into()));
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        assert_eq!(parse(r#", "hwaddr": "02:00:00:00:00:01""#).unwrap(), Conf::Mac(mac));
        let path = "/sys/devices/pci0000:00/0000:00:1f.6";
        let keys = format!(r#", "kernelpath": "{path}""#);
        assert_eq!(parse(&keys).unwrap(), Conf::Path(path.into()));
        let bus = Conf::Bus("0000:00:1f.6".into());
        assert_eq!(parse(r#", "pciBusID": "0000:00:1f.6""#).unwrap(), bus);
        let runtime = r#", "device": "dev0", "runtimeConfig": {"deviceID": "0000:00:1f.6"}"#;
        assert_eq!(parse(runtime).unwrap(), bus);
    }

    #[test]
    fn wrong_values_name_key_and_value() {
        for (keys, words) in [
            ("", "specify either"),
            (r#", "device": "a/b""#, "device \"a/b\""),
            (r#", "hwaddr": "nonsense""#, "hwaddr \"nonsense\""),
            (r#", "kernelpath": "/etc""#, "kernelpath \"/etc\""),
            (r#", "kernelpath": "/sys/devices/../../etc""#, "/sys/devices/../../etc"),
            (r#", "pciBusID": "../x""#, "pciBusID \"../x\""),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }
}
