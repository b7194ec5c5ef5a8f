//! The CNI plugin `vlan`: gives a container the tagged frames (IEEE 802.1Q) of a link of the host.
//!
//! The interface has the hardware address of the link below, which is what switches expect there.
//! The story of its ADD is [`plugin_interface::alone`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

use cni_conf::attachment::Attachment;
use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use cni_conf::result::IpConfig;
use kernel::link::{Kind, Link};
use kernel::{MacAddress, Rtnl};
use nix::errno::Errno;
use plugin_interface::alone::{self, New, Place};
use plugin_interface::keys::Mtu;
use plugin_interface::master::Master;
use plugin_interface::{Alone, Error, Result, kind};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// The largest tag; the one above is reserved.
const MOST: u16 = 4094;

/// The plugin's keys, checked.
#[derive(Debug)]
struct Vlan {
    /// `master`, which must be given, and `linkInContainer`.
    master: Master,
    /// `vlanId`: the tag.
    id: u16,
    /// `mtu`.
    mtu: Mtu,
}

impl Alone for Vlan {
    const NAME: &'static str = "vlan";
    const KIND: &'static str = "vlan";

    fn parse(conf: &NetConf, _: &Env) -> Result<Self> {
        let master = Master::parse(conf)?;
        if master.name.is_none() {
            let reason = "is needed: name the link that has the tagged frames".into();
            return Err(Error::Config { key: "master", value: "\"\"".into(), reason });
        }
        Ok(Vlan { master, id: vlan_id(conf)?, mtu: Mtu::parse(conf)? })
    }

    fn mtu(&self) -> Mtu {
        self.mtu
    }

    fn master(&self) -> Option<&Master> {
        Some(&self.master)
    }

    fn mac(&self, _: &Attachment, _: &[IpConfig]) -> Option<MacAddress> {
        None
    }

    fn probe(&self, host: &mut Rtnl) -> Result<()> {
        kind::demand(host, Kind::Vlan { id: self.id })
    }

    /// The name in the container is known to be free.
    fn make(&self, place: &mut Place, new: &New<'_>) -> Result<()> {
        let id = self.id;
        place.create(Kind::Vlan { id }, new).map_err(|error| match error {
            Error::Kernel(source) if source.is(Errno::EEXIST) => {
                let master = place.lower.as_ref().map(|lower| lower.name.clone());
                Error::TagTaken { id, master: master.unwrap_or_default(), source }
            }
            error => error,
        })
    }

    fn difference(&self, link: &Link) -> Option<String> {
        let wanted = Kind::Vlan { id: self.id };
        let differs = link.made_as != Some(wanted);
        differs.then(|| format!("{:?} has not the VLAN ID {}", link.name, self.id))
    }
}

fn vlan_id(conf: &NetConf) -> Result<u16> {
    let id = conf.get::<i64>("vlanId")?.unwrap_or_default();
    let reason = || format!("invalid VLAN ID {id} (must be between 0 and {MOST})");
    let wrong = || Error::Config { key: "vlanId", value: id.to_string(), reason: reason() };
    u16::try_from(id).ok().filter(|id| *id <= MOST).ok_or_else(wrong)
}

fn main() -> ExitCode {
    alone::main::<Vlan>()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Vlan> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "n", "type": "vlan" {keys}}}"#);
        Vlan::parse(&NetConf::parse(text.as_bytes()).unwrap(), &Env::default())
    }

    #[test]
    fn a_tag_has_twelve_bits_but_one() {
        for id in [0, 1, 4094] {
            let vlan = parse(&format!(r#", "master": "up0", "vlanId": {id}"#)).unwrap();
            assert_eq!(vlan.id, id);
        }
        for id in [-1, 4095, 65536] {
            let error = parse(&format!(r#", "master": "up0", "vlanId": {id}"#)).unwrap_err();
            assert!(error.to_string().contains(&format!("vlanId {id}")), "{error}");
        }
    }

    #[test]
    fn the_master_must_be_named() {
        assert!(parse(r#", "vlanId": 1"#).unwrap_err().to_string().contains("master"));
    }
}
