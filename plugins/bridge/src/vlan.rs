//! The VLANs of a port: `vlan`, `vlanTrunk` and `preserveDefaultVlan`.

use cni_conf::conf::NetConf;
use cni_conf::error::CniError;
use cni_conf::json::Object;
use kernel::link::{self, PortVlan};
use kernel::netlink::Message;
use kernel::{NetNs, Rtnl};
use plugin_interface::{Error, Result};

/// The largest VLAN ID (IEEE 802.1Q; 4095 is reserved).
const GREATEST: i64 = 4094;
/// How many VLAN IDs there are.
const TAGS: usize = 4096;
/// The VLAN that a new port of a bridge is in, untagged in both directions.
const DEFAULT: u16 = 1;

/// The VLANs that the container's port shall be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vlans {
    /// `vlan`: frames without a tag are of this one.
    pub(crate) native: Option<u16>,
    trunk: Vec<PortVlan>,
    preserve_default: bool,
}

impl Vlans {
    /// Reads the keys; `None` if neither `vlan` nor `vlanTrunk` is given.
    pub(crate) fn parse(conf: &NetConf) -> Result<Option<Vlans>> {
        let native = native(conf)?;
        let is_trunk = conf.object().raw("vlanTrunk").is_some_and(|value| value.get() != "null");
        let preserve_default = conf.get::<bool>("preserveDefaultVlan")?.unwrap_or_default();
        let trunk = conf.object().objects("vlanTrunk").map_err(CniError::from)?;
        let trunk = trunk.iter().map(trunk_entry).collect::<Result<Vec<_>>>()?.concat();
        let given = native.is_some() || is_trunk;
        Ok(given.then_some(Vlans { native, trunk, preserve_default }))
    }

    /// The keys as they are told in an error.
    fn written(&self) -> (&'static str, String) {
        match self.native {
            Some(id) => ("vlan", id.to_string()),
            None => ("vlanTrunk", format!("of {} entries", self.trunk.len())),
        }
    }

    /// The VLANs that the port is in at the end, without the default one. The native one is last:
    /// it may be within the trunk, too, and is native all the same.
    pub(crate) fn of_port(&self) -> Vec<PortVlan> {
        let native = self.native.unwrap_or(DEFAULT);
        self.trunk.iter().cloned().chain([PortVlan::native(native)]).collect()
    }

    /// What makes a new port one of these VLANs.
    pub(crate) fn set(&self, port: u32) -> Vec<Message> {
        // Once another VLAN is the native one, the default one is still sent without a tag.
        let leaves_default = self.native.is_some_and(|id| id != DEFAULT) && !self.preserve_default;
        let leave = leaves_default.then(|| link::delete_vlans(port, &[PortVlan::native(DEFAULT)]));
        leave.into_iter().chain([link::add_vlans(port, &self.of_port())]).collect()
    }

    /// Whether a port is in these VLANs and no others.
    pub(crate) fn are(&self, present: &[PortVlan]) -> bool {
        let default = PortVlan { pvid: false, ..PortVlan::native(DEFAULT) };
        let keeps_default = self.native.is_some() && self.preserve_default;
        let wanted = keeps_default.then_some(default).into_iter().chain(self.of_port());
        one_by_one(wanted) == one_by_one(present.iter().cloned())
    }

    /// The VLANs of the port by which the host itself is the gateway of the native VLAN.
    pub(crate) fn of_gateway(&self) -> Vlans {
        Vlans { trunk: Vec::new(), ..self.clone() }
    }

    /// Refuses where the kernel has no VLANs on bridges.
    pub(crate) fn require_kernel(&self) -> Result<()> {
        if Rtnl::open_in(&NetNs::create()?)?.knows_vlan_filtering()? {
            return Ok(());
        }
        let (key, value) = self.written();
        let feature = "bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)";
        Err(Error::MissingFeature { key, value, feature })
    }

    /// Refuses a bridge that would let frames of every VLAN pass to every port.
    pub(crate) fn require_filtering(&self, bridge: &link::Link) -> Result<()> {
        if bridge.vlan_filtering {
            return Ok(());
        }
        let (key, value) = self.written();
        let reason = format!(
            "bridge {0:?} does not filter by VLAN; use another bridge, or turn it on: ip link set {0} type bridge vlan_filtering 1",
            bridge.name
        );
        Err(Error::Config { key, value, reason })
    }
}

/// At the place of each VLAN's tag, whether it is the native one, and whether it goes out without a
/// tag; of two with one tag, the later one counts.
fn one_by_one(vlans: impl IntoIterator<Item = PortVlan>) -> Vec<Option<(bool, bool)>> {
    let mut by_tag = vec![None; TAGS];
    for vlan in vlans {
        for tag in vlan.ids {
            if let Some(place) = by_tag.get_mut(usize::from(tag)) {
                *place = Some((vlan.pvid, vlan.untagged));
            }
        }
    }
    by_tag
}

fn native(conf: &NetConf) -> Result<Option<u16>> {
    let id = conf.get::<i64>("vlan")?.unwrap_or_default();
    let wrong = || Error::Config {
        key: "vlan",
        value: id.to_string(),
        reason: format!("invalid VLAN ID {id} (must be between 0 and {GREATEST})"),
    };
    let number = u16::try_from(id).ok().filter(|_| id <= GREATEST).ok_or_else(wrong)?;
    Ok((number != 0).then_some(number))
}

/// `{"id": …}`, `{"minID": …, "maxID": …}`, or all three.
fn trunk_entry(entry: &Object) -> Result<Vec<PortVlan>> {
    let range = match (vlan_of(entry, "minID")?, vlan_of(entry, "maxID")?) {
        (None, None) => None,
        (Some(first), Some(last)) if first <= last => Some(PortVlan::tagged(first..=last)),
        (Some(_), Some(_)) => {
            return Err(wrong(entry, "minID", "minID is greater than maxID in trunk parameter"));
        }
        (Some(_), None) => return Err(wrong(entry, "maxID", &simultaneously("maxID"))),
        (None, Some(_)) => return Err(wrong(entry, "minID", &simultaneously("minID"))),
    };
    let single = vlan_of(entry, "id")?.map(|id| PortVlan::tagged(id..=id));
    Ok(range.into_iter().chain(single).collect())
}

fn simultaneously(missing: &str) -> String {
    format!("minID and maxID should be configured simultaneously, {missing} is missing")
}

fn vlan_of(entry: &Object, key: &'static str) -> Result<Option<u16>> {
    let Some(id) = entry.get::<i64>(key).map_err(CniError::from)? else { return Ok(None) };
    let number = u16::try_from(id).ok().filter(|_| (1..=GREATEST).contains(&id));
    let incorrect = || {
        wrong(
            entry,
            key,
            &format!("incorrect trunk {key} parameter (must be between 1 and {GREATEST})"),
        )
    };
    number.map(Some).ok_or_else(incorrect)
}

fn wrong(entry: &Object, key: &str, reason: &str) -> Error {
    let value = entry.raw(key).map_or("absent", |value| value.get());
    Error::Config { key: "vlanTrunk", value: format!("{key} {value}"), reason: reason.into() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Option<Vlans>> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "bridge" {keys}}}"#);
        Vlans::parse(&NetConf::parse(text.as_bytes()).unwrap())
    }

    fn of_port(keys: &str) -> Vec<PortVlan> {
        parse(keys).unwrap().unwrap().of_port()
    }

    #[test]
    fn without_vlans_nothing_is_asked_of_the_bridge() {
        for keys in
            ["", r#", "vlan": 0"#, r#", "vlanTrunk": null"#, r#", "preserveDefaultVlan": true"#]
        {
            assert_eq!(parse(keys).unwrap(), None, "{keys}");
        }
    }

    #[test]
    fn a_trunk_has_a_native_vlan_too() {
        let trunk = r#", "vlanTrunk": [{"id": 101}, {"minID": 200, "maxID": 210}]"#;
        let tagged = [PortVlan::tagged(101..=101), PortVlan::tagged(200..=210)];
        let with = |native| [&tagged[..], &[PortVlan::native(native)]].concat();
        assert_eq!(of_port(trunk), with(1));
        assert_eq!(of_port(&format!("{trunk}, \"vlan\": 100")), with(100));
        assert_eq!(of_port(r#", "vlanTrunk": []"#), [PortVlan::native(1)]);
        assert_eq!(of_port(r#", "vlan": 4094"#), [PortVlan::native(4094)]);
    }

    #[test]
    fn the_default_vlan_goes_unless_it_is_wanted() {
        let requests = |keys: &str| parse(keys).unwrap().unwrap().set(7).len();
        assert_eq!(requests(r#", "vlan": 100"#), 2);
        assert_eq!(requests(r#", "vlan": 100, "preserveDefaultVlan": true"#), 1);
        assert_eq!(requests(r#", "vlan": 1"#), 1);
        assert_eq!(requests(r#", "vlanTrunk": [{"id": 101}]"#), 1);
    }

    #[test]
    fn what_is_no_vlan_is_refused_in_the_words_of_the_reference() {
        for (keys, words) in [
            (r#", "vlan": -100"#, "invalid VLAN ID -100 (must be between 0 and 4094)"),
            (r#", "vlan": 4095"#, "invalid VLAN ID 4095"),
            (r#", "vlanTrunk": [{"id": 0}]"#, "incorrect trunk id parameter"),
            (r#", "vlanTrunk": [{"minID": 5000, "maxID": 1}]"#, "incorrect trunk minID parameter"),
            (r#", "vlanTrunk": [{"minID": 5, "maxID": 4}]"#, "minID is greater than maxID"),
            (r#", "vlanTrunk": [{"minID": 5}]"#, "maxID is missing"),
            (r#", "vlanTrunk": [{"maxID": 5}]"#, "minID is missing"),
            (r#", "vlanTrunk": {"id": 1}"#, "vlanTrunk"),
        ] {
            let error = parse(keys).unwrap_err().to_string();
            assert!(error.contains(words), "{keys}: {error}");
        }
    }
}
