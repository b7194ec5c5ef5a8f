//! The VRF: a link whose ports have a routing table of their own.

use std::collections::HashSet;

use kernel::Rtnl;
use kernel::link::{self, Kind, Link, NewLink};
use kernel::route::{Route, TABLE_MAIN};
use plugin_interface::{Error, Result, kind, removal};

use crate::conf::Conf;

/// The kernel's name for the kind.
const KIND: &str = "vrf";
/// Tables of the kernel's own beside the main one: of last resort, and of local addresses.
const DEFAULT: u32 = 253;
const LOCAL: u32 = 255;

/// Asks whether the kernel can make VRFs, and makes none.
///
/// # Errors
/// It cannot.
pub(crate) fn demand(rtnl: &mut Rtnl) -> Result<()> {
    kind::demand(rtnl, Kind::Vrf { table: TABLE_MAIN })
}

/// The table of a link, if that is a VRF.
pub(crate) fn of(link: &Link) -> Option<u32> {
    match link.made_as {
        Some(Kind::Vrf { table }) => Some(table),
        _ => None,
    }
}

/// The table that the VRF has, or shall get. `found` is what has its name now.
///
/// # Errors
/// It is no VRF, or has another table than is asked for.
pub(crate) fn choose(rtnl: &mut Rtnl, conf: &Conf, found: Option<&Link>) -> Result<u32> {
    let Some(found) = found else {
        return match conf.table {
            Some(wanted) => Ok(wanted),
            None => Ok(first_free(&rtnl.links()?, &rtnl.routes(0)?)),
        };
    };
    let name = found.name.clone();
    match (of(found), conf.table) {
        (None, _) => {
            let kind = found.kind.clone();
            Err(Error::WrongKind { key: "vrfname", name, wanted: KIND, kind })
        }
        (Some(found), Some(wanted)) if found != wanted => {
            Err(Error::VrfTable { name, found, wanted })
        }
        (Some(table), _) => Ok(table),
    }
}

/// The first table that no VRF has, that no route is in, and that is not the kernel's own.
fn first_free(links: &[Link], routes: &[Route]) -> u32 {
    let mut taken = HashSet::from([DEFAULT, TABLE_MAIN, LOCAL]);
    taken.extend(links.iter().filter_map(of));
    taken.extend(routes.iter().map(|route| route.table));
    (1..).find(|table| !taken.contains(table)).unwrap_or(u32::MAX)
}

/// Makes a VRF. Either it is there afterwards or nothing is, unless the kernel gave no answer.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn make(rtnl: &mut Rtnl, name: &str, table: u32) -> Result<()> {
    let kind = Kind::Vrf { table };
    let new = NewLink { name, kind, namespace: None, lower: None, mac: None, mtu: None, up: true };
    rtnl.request(&new.create()).map_err(|error| Error::of_kind(kind, error))
}

/// Removes a VRF that has no ports.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn remove_if_empty(mut rtnl: Rtnl, vrf: &Link) -> Result<()> {
    match rtnl.links()?.iter().any(|link| link.master == Some(vrf.index)) {
        true => Ok(()),
        false => removal::of_link(rtnl, vrf),
    }
}

/// Takes an interface out of a VRF; one that is gone is no error.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn release(rtnl: &mut Rtnl, interface: u32) -> Result<()> {
    match rtnl.request(&link::set_master(interface, None)) {
        Err(error) if !error.is_absent() => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_free_table_is_nobodys() {
        let vrf = |table| Link {
            made_as: Some(Kind::Vrf { table }),
            kind: KIND.into(),
            ..Link::default()
        };
        let route = |table| Route { table, ..Route::new("10.0.0.0/8".parse().unwrap()) };
        assert_eq!(first_free(&[], &[]), 1);
        assert_eq!(first_free(&[vrf(1), vrf(3)], &[route(2)]), 4);
        let all: Vec<_> = (1..253).map(vrf).collect();
        assert_eq!(first_free(&all, &[]), 256);
    }
}
