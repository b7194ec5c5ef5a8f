//! What an interface loses when it comes into a VRF or out of it: the kernel takes it down and up
//! again. IPv6 addresses go, unless `keep_addr_on_down` is set, and all routes but those that the
//! kernel makes of the addresses.

use kernel::address::{self, Address};
use kernel::events::{Events, Topic};
use kernel::route::{self, Route, TABLE_MAIN};
use kernel::{NetNs, Rtnl};
use nix::errno::Errno;
use plugin_interface::{Result, ready};

/// Those who make routes without being asked (`RTPROT_*`): by a redirect, of an address, by a
/// router's advertisement.
const OF_THE_KERNEL: [u8; 3] = [1, 2, 9];

/// Addresses and routes of an interface.
#[derive(Debug)]
pub(crate) struct Belongings {
    link: u32,
    addresses: Vec<Address>,
    routes: Vec<Route>,
}

impl Belongings {
    /// What the link of this index has, without what the kernel makes itself.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn of(rtnl: &mut Rtnl, link: u32) -> Result<Self> {
        let mut addresses = rtnl.addresses(link)?;
        addresses.retain(|own| own.permanent && !own.link_local && !own.duplicate);
        let mut routes = rtnl.routes(0)?;
        routes.retain(|route| route.link == Some(link) && !OF_THE_KERNEL.contains(&route.protocol));
        // What is on the link comes before what is reached through it.
        routes.sort_by_key(|route| route.gateway.is_some());
        Ok(Belongings { link, addresses, routes })
    }

    /// Gives back what is missing, the routes of the main table in this one, and returns when the
    /// addresses are in use. Over a link without a carrier they need not be.
    ///
    /// # Errors
    /// The kernel refuses, or is not ready in time.
    pub(crate) fn give_back(&self, rtnl: &mut Rtnl, netns: &NetNs, main: u32) -> Result<()> {
        let kept = rtnl.addresses(self.link)?;
        let lost = |own: &&Address| !kept.iter().any(|kept| kept.address == own.address);
        let addresses = self.addresses.iter().filter(lost).map(again);
        let in_table = |route: &Route| match route.table {
            TABLE_MAIN => Route { table: main, ..*route },
            _ => *route,
        };
        let routes = self.routes.iter().map(|route| route::append(&in_table(route)));
        let requests: Vec<_> = addresses.chain(routes).collect();
        for answer in rtnl.batch(&requests)? {
            match answer {
                // An undoing may find that nothing was lost.
                Err(error) if !error.is(Errno::EEXIST) => return Err(error.into()),
                _ => {}
            }
        }
        self.wait(rtnl, netns)
    }

    fn wait(&self, rtnl: &mut Rtnl, netns: &NetNs) -> Result<()> {
        let link = rtnl.link_by_index(self.link)?;
        if !link.is_some_and(|link| link.has_carrier()) {
            return Ok(());
        }
        let addresses: Vec<_> = self.addresses.iter().map(|own| own.address.ip()).collect();
        let listen = || Events::open_in(netns, Topic::Ipv6Routes);
        ready::wait_for_addresses(rtnl, self.link, &addresses, listen)
    }
}

/// An address as it was. That nobody else has it was found out when it was new.
fn again(own: &Address) -> kernel::netlink::Message {
    match own.alone {
        true => address::add_alone(own.link, own.address),
        false => address::add(own.link, own.address, false),
    }
}
