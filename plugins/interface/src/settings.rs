//! Settings of links and of the host under `/proc/sys`.

use cni_conf::result::IpConfig;
use kernel::Rtnl;
use kernel::sysctl::{self, SysctlError};

use crate::error::Result;

/// The settings by which a host passes packets on, of each family.
const FORWARDING: [(&str, bool); 2] =
    [("net/ipv4/ip_forward", true), ("net/ipv6/conf/all/forwarding", false)];

/// A setting that is only for safety: a kernel without IPv6 does not have it, and on a read-only
/// `/proc/sys` the administrator has decided.
///
/// # Errors
/// It could not be written for another reason.
pub fn where_possible<T>(set: std::result::Result<T, SysctlError>) -> Result<()> {
    match set {
        Err(error) if !error.is_absent() && !error.is_read_only() => Err(error.into()),
        _ => Ok(()),
    }
}

/// Makes the host pass on packets of the families of these addresses.
///
/// # Errors
/// A setting cannot be written.
pub fn forward(host: &mut Rtnl, ips: &[IpConfig]) -> Result<()> {
    for (key, v4) in forwarding_of(ips) {
        // Mostly it is on. What cannot be told this way, the setting itself tells.
        if !host.forwards(!v4).unwrap_or_default() {
            sysctl::set(key, "1")?;
        }
    }
    Ok(())
}

/// Prepares a link of the host to be the gateway of containers. It must be done before frames pass.
///
/// # Errors
/// A setting cannot be written.
pub fn make_gateway(link: &str, ipv6: bool) -> Result<()> {
    let setting = |key: &str| format!("net/ipv6/conf/{link}/{key}");
    // A router on the network must not be able to give the host addresses and routes.
    where_possible(sysctl::set(&setting("accept_ra"), "0"))?;
    if ipv6 {
        sysctl::set(&setting("disable_ipv6"), "0")?;
        // Forwarded packets ask for neighbours from the link-local address, and are dropped while
        // its duplicate address detection runs: two seconds from the first frames on.
        sysctl::set(&setting("accept_dad"), "0")?;
    }
    Ok(())
}

/// The settings by which the host passes on packets of the families of these addresses, and whether
/// each is that of IPv4.
pub(crate) fn forwarding_of(ips: &[IpConfig]) -> impl Iterator<Item = (&'static str, bool)> {
    let used = |v4: bool| ips.iter().any(|ip| ip.address.is_ipv4() == v4);
    FORWARDING.into_iter().filter(move |(_, v4)| used(*v4))
}
