//! `master` and `linkInContainer`: the link that a Pod's interface is on top of.

use cni_conf::conf::NetConf;
use cni_conf::names::check_ifname;
use kernel::Rtnl;
use kernel::link::Link;

use crate::error::{Error, Result};
use crate::uplink;

/// Which link is below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Master {
    /// `master`: its name; that of the default route if none is given.
    pub name: Option<String>,
    /// `linkInContainer`: whether it is in the container, and not on the host.
    pub in_container: bool,
}

impl Master {
    /// Reads the keys.
    ///
    /// # Errors
    /// A link cannot have such a name.
    pub fn parse(conf: &NetConf) -> Result<Master> {
        let name = conf.get::<String>("master")?.filter(|name| !name.is_empty());
        if let Some(name) = &name {
            check_ifname(name).map_err(|error| wrong(Some(name), error.to_string()))?;
        }
        let in_container = conf.get::<bool>("linkInContainer")?.unwrap_or_default();
        Ok(Master { name, in_container })
    }

    /// The link, in the namespace of `rtnl`.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, rtnl: &mut Rtnl) -> Result<Link> {
        let place = if self.in_container { "in the container" } else { "on the host" };
        let Some(name) = &self.name else {
            let reason = format!("there is no default route {place} to take the link of; name one");
            return uplink::find(rtnl)?.ok_or_else(|| wrong(None, reason));
        };
        let reason = format!("failed to lookup master: there is no such link {place}");
        rtnl.link_by_name(name)?.ok_or_else(|| wrong(Some(name), reason))
    }
}

fn wrong(name: Option<&str>, reason: String) -> Error {
    Error::Config { key: "master", value: format!("{:?}", name.unwrap_or_default()), reason }
}
