//! Whether a namespace passes packets on, asked by netlink (`linux/netconf.h`): reading the setting under
//! `/proc/sys` takes several times as long.

use nix::libc;

use crate::Rtnl;
use crate::netlink::{Message, Result};

/// `struct netconfmsg`, the family and padding.
const HEADER: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
/// `NETCONFA_IFINDEX_ALL`: the setting `all`.
const ALL: i32 = -1;

impl Rtnl {
    /// Whether packets of a family are passed on: `net/ipv4/ip_forward`, or
    /// `net/ipv6/conf/all/forwarding`.
    ///
    /// # Errors
    /// The kernel does not know the family.
    pub fn forwards(&mut self, ipv6: bool) -> Result<bool> {
        let (family, name) = if ipv6 { (libc::AF_INET6, "IPv6") } else { (libc::AF_INET, "IPv4") };
        let what = format!("ask whether {name} is forwarded");
        let question = Message::new(what, libc::RTM_GETNETCONF, 0, &[family as u8, 0, 0, 0])
            .put(NETCONFA_IFINDEX, &ALL.to_ne_bytes());
        let answer = self.socket.get(&[question])?.pop().transpose()?;
        let setting = answer.as_ref().and_then(|answer| {
            answer.attributes(HEADER).get(NETCONFA_FORWARDING).and_then(|setting| setting.u32())
        });
        Ok(setting == Some(1))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::{NetNs, Rtnl, sysctl};

    #[test]
    fn each_family_is_told_as_its_setting_says() {
        let ns = NetNs::create().unwrap();
        let mut rtnl = Rtnl::open_in(&ns).unwrap();
        let keys = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
        for wanted in [[true, false], [false, true], [false, false], [true, true]] {
            for (key, on) in keys.into_iter().zip(wanted) {
                ns.run(|| sysctl::write(key, if on { "1" } else { "0" })).unwrap().unwrap();
            }
            assert_eq!([false, true].map(|ipv6| rtnl.forwards(ipv6).unwrap()), wanted);
        }
    }
}
