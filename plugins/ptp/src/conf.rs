//! What the network configuration asks of this plugin.

use cni_conf::conf::NetConf;
use cni_conf::env::Env;
use kernel::MacAddress;
use plugin_interface::Result;
use plugin_interface::keys::{self, Mtu};

/// The plugin's keys, checked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conf {
    /// `ipMasq`: what leaves the network leaves with the host's address.
    pub(crate) masquerade: bool,
    /// `mtu` of both ends of the veth.
    pub(crate) mtu: Mtu,
    /// The container's hardware address, if somebody wishes for one.
    pub(crate) mac: Option<MacAddress>,
}

impl Conf {
    /// Reads and checks the plugin's keys.
    pub(crate) fn parse(conf: &NetConf, env: &Env) -> Result<Conf> {
        Ok(Conf {
            masquerade: keys::masquerade(conf)?,
            mtu: Mtu::parse(conf)?,
            mac: keys::wished_mac(conf, env)?,
        })
    }
}
