//! ADD, from top to bottom.
//!
//! Everything that can be refused is refused before the first change. The link's attributes are
//! written to a backup before they change, so that DEL restores them whenever an ADD was killed; what
//! fails in mid-way is undone by the same code.

use std::path::Path;

use cni_conf::plugin::Call;
use cni_conf::result::CniResult;
use kernel::link::Link;
use plugin_interface::{Container, Error, Previous, Result};

use crate::backup::{Backup, Owner, Place};
use crate::conf::{self, Conf};
use crate::{del, sysctls};

/// Tunes the container's interface and namespace.
pub(crate) fn add(call: &Call, netns: &Path) -> Result<CniResult> {
    let conf = Conf::parse(&call.conf, &call.env.args, &call.attachment.ifname)?;
    let previous = Previous::of(call)?;
    let mut site = Site::inspect(call, netns, &conf)?;
    site.remember()?;
    if let Err(error) = site.tune() {
        let undone = Error::all([site.reset_sysctls(), del::restore_and_forget(call, Some(netns))]);
        return Err(error.undone(undone));
    }
    Ok(patched(previous, &conf, &call.attachment.ifname))
}

/// Where the work is done, and how it is there.
struct Site<'a> {
    call: &'a Call,
    conf: &'a Conf,
    container: Container,
    link: Link,
    place: Place,
    /// What the sysctls are.
    values: Vec<Option<String>>,
}

impl<'a> Site<'a> {
    /// Looks at what is there, and refuses where the work could not be done.
    fn inspect(call: &'a Call, netns: &Path, conf: &'a Conf) -> Result<Self> {
        let place = Place::new(&conf::data_dir(&call.conf)?, &call.attachment);
        let mut container = Container::open(call, netns)?;
        let link = container.interface(&call.attachment.ifname, netns)?;
        let values = container.netns.run(|| sysctls::look(&conf.sysctls))??;
        Ok(Site { call, conf, container, link, place, values })
    }

    /// Writes down what the link is. After an ADD that was killed it is not what it was: a backup of
    /// the same link is right, and gets what it lacks.
    fn remember(&self) -> Result<()> {
        if self.conf.link.is_empty() {
            return Ok(());
        }
        let attachment = &self.call.attachment;
        let owner = Some(Owner::new(attachment, &self.container.netns, &self.link)?);
        let known = self.place.read(attachment)?.filter(|backup| backup.owner == owner);
        let now = crate::attributes::Attributes::of(&self.link, &self.conf.link);
        let link = known.unwrap_or_default().link.or(now);
        let written = self.place.write(&Backup { link, owner });
        written.map_err(|error| {
            Error::from(error).undone(self.place.remove_scratch().map_err(Error::from))
        })
    }

    /// Changes everything.
    fn tune(&mut self) -> Result<()> {
        self.container.netns.run(|| sysctls::set(&self.conf.sysctls, &self.values))??;
        // One by one: what is behind a refused request of a batch is done all the same.
        for request in self.conf.link.requests(self.link.index) {
            self.container.rtnl.request(&request)?;
        }
        Ok(())
    }

    /// Gives the sysctls the values that they had, the last first.
    fn reset_sysctls(&self) -> Result<()> {
        let pairs = self.conf.sysctls.iter().zip(&self.values).rev();
        let reset = || {
            Error::all(pairs.filter_map(|(sysctl, value)| {
                let reset = kernel::sysctl::set(&sysctl.path, value.as_ref()?);
                Some(reset.map(drop).map_err(Error::from))
            }))
        };
        self.container.netns.run(reset)?
    }
}

/// The result of the plugins before, with what the interface has now.
fn patched(previous: Previous, conf: &Conf, ifname: &str) -> CniResult {
    let mut result = previous.result;
    let own = |interface: &&mut cni_conf::result::Interface| {
        interface.name == ifname && !interface.sandbox.is_empty()
    };
    for interface in result.interfaces.iter_mut().filter(own) {
        if let Some(mac) = conf.link.mac {
            interface.mac = mac.to_string();
        }
        interface.mtu = conf.link.mtu.or(interface.mtu);
    }
    result
}
