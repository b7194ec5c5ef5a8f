//! ADD, from top to bottom.
//!
//! Until everything is looked at nothing is changed. What fails afterwards is undone: the interface
//! is taken out, has what it had, and a VRF that was made goes. Killed in between, an ADD leaves a
//! VRF that is empty or has the interface in it, which DEL finds by its name.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::CniResult;
use kernel::link::{self, Link};
use kernel::route::TABLE_MAIN;
use plugin_interface::{Container, Error, Previous, Result};

use crate::belongings::Belongings;
use crate::conf::Conf;
use crate::table;

/// Puts the container's interface into the VRF.
pub(crate) fn add(call: &Call, netns: &Path) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf)?;
    let previous = Previous::of(call)?;
    let mut site = Site::inspect(call, netns, &conf)?;
    match site.enslave() {
        Ok(()) => Ok(previous.result),
        Err(error) => Err(error.undone(site.undo())),
    }
}

/// Where the work is done: the container, its interface and the VRF.
struct Site {
    container: Container,
    interface: Link,
    belongings: Belongings,
    name: String,
    table: u32,
    /// The VRF's index, if it was there before.
    found: Option<u32>,
    /// Whether this ADD may have made the VRF.
    made: bool,
}

impl Site {
    /// Looks at what is there, and refuses where the work could not be done.
    fn inspect(call: &Call, netns: &Path, conf: &Conf) -> Result<Site> {
        let ifname = &call.attachment.ifname;
        let mut container = Container::open(call, netns)?;
        let rtnl = &mut container.rtnl;
        let interface = rtnl.link_by_name(ifname)?.ok_or_else(|| vanished(ifname))?;
        if let Some(master) = interface.master {
            let master = rtnl.link_by_index(master)?.map(|master| master.name);
            let (ifname, master) = (ifname.clone(), master.unwrap_or_default());
            return Err(Error::HasMaster { ifname, master });
        }
        let found = rtnl.link_by_name(&conf.name)?;
        let table = table::choose(rtnl, conf, found.as_ref())?;
        let belongings = Belongings::of(rtnl, interface.index)?;
        let (name, found) = (conf.name.clone(), found.map(|found| found.index));
        Ok(Site { container, interface, belongings, name, table, found, made: false })
    }

    fn enslave(&mut self) -> Result<()> {
        let vrf = match self.found {
            Some(vrf) => vrf,
            None => self.make()?,
        };
        let Container { netns, rtnl, .. } = &mut self.container;
        rtnl.request(&link::set_master(self.interface.index, Some(vrf)))?;
        self.belongings.give_back(rtnl, netns, self.table)
    }

    fn make(&mut self) -> Result<u32> {
        let rtnl = &mut self.container.rtnl;
        let made = table::make(rtnl, &self.name, self.table);
        // The kernel may have made it and only the answer be lost.
        self.made = !made.as_ref().is_err_and(Error::is_refusal);
        made?;
        let found = rtnl.link_by_name(&self.name)?;
        found.map(|vrf| vrf.index).ok_or_else(|| vanished(&self.name))
    }

    /// Takes back what this ADD did.
    fn undo(mut self) -> Result<()> {
        let Container { netns, rtnl, .. } = &mut self.container;
        let released = table::release(rtnl, self.interface.index)
            .and_then(|()| self.belongings.give_back(rtnl, netns, TABLE_MAIN));
        let removed = if self.made { self.remove() } else { Ok(()) };
        Error::all([released, removed])
    }

    fn remove(mut self) -> Result<()> {
        match self.container.rtnl.link_by_name(&self.name)? {
            Some(vrf) if table::of(&vrf).is_some() => {
                table::remove_if_empty(self.container.rtnl, &vrf)
            }
            _ => Ok(()),
        }
    }
}

fn vanished(name: &str) -> Error {
    Error::Vanished { thing: format!("link {name:?} of the container") }
}
