//! Chained plugins: what the plugins before this one in the list gave to the container.
//!
//! Such a plugin adds something to an interface that is there already, and hands the result on. Its
//! DEL and GC must not need the result: what it makes is found by the attachment alone.

use std::path::Path;

use cni_conf::attachment::Attachment;
use cni_conf::plugin::Call;
use cni_conf::result::{CniResult, Interface, IpConfig};
use ipnetwork::IpNetwork;
use kernel::link::Link;

use crate::container_end::Container;
use crate::error::{Error, Result};

/// The result of the plugin before this one.
#[derive(Clone, Debug)]
pub struct Previous {
    /// All of it.
    pub result: CniResult,
    ifname: String,
}

impl Previous {
    /// The `prevResult` of an ADD or a CHECK.
    ///
    /// # Errors
    /// There is none: the plugin was called on its own.
    pub fn of(call: &Call) -> Result<Previous> {
        let missing = || Error::Config {
            key: "prevResult",
            value: "null".into(),
            reason:
                "is needed: this plugin must be called as chained plugin; put it behind one that \
                     makes an interface, such as bridge, in the same list"
                    .into(),
        };
        let result = call.conf.prev_result()?.ok_or_else(missing)?;
        Ok(Previous::new(result, &call.attachment))
    }

    fn new(result: CniResult, attachment: &Attachment) -> Previous {
        Previous { result, ifname: attachment.ifname.clone() }
    }

    /// The container's interface; results before version 0.3.0 have none.
    pub fn container(&self) -> Option<&Interface> {
        self.result.interfaces.iter().find(|interface| self.is_container(interface))
    }

    /// The interfaces on the host, in the order of the result: of the bridge plugin first the bridge,
    /// then the host's end of the veth.
    pub fn on_host(&self) -> impl Iterator<Item = &Interface> {
        self.result.interfaces.iter().filter(|interface| interface.sandbox.is_empty())
    }

    /// The addresses of the container's interface, and those of no interface.
    pub fn addresses(&self) -> impl Iterator<Item = IpNetwork> {
        let is_own = |ip: &&IpConfig| {
            let interface = ip.interface.map(|index| self.result.interfaces.get(index));
            interface.is_none_or(|found| found.is_some_and(|found| self.is_container(found)))
        };
        self.result.ips.iter().filter(is_own).map(|ip| ip.address)
    }

    fn is_container(&self, interface: &Interface) -> bool {
        interface.name == self.ifname && !interface.sandbox.is_empty()
    }
}

impl Container {
    /// The interface that a plugin before this one has made.
    ///
    /// # Errors
    /// [`Error::NoInterface`].
    pub fn interface(&mut self, ifname: &str, netns: &Path) -> Result<Link> {
        let missing = || Error::NoInterface { ifname: ifname.into(), netns: netns.into() };
        self.rtnl.link_by_name(ifname)?.ok_or_else(missing)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn interface(name: &str, sandbox: &str) -> Interface {
        Interface { name: name.into(), sandbox: sandbox.into(), ..Interface::default() }
    }

    fn ip(address: &str, interface: Option<usize>) -> IpConfig {
        IpConfig { interface, address: address.parse().unwrap(), gateway: None }
    }

    #[test]
    fn the_containers_interface_is_the_one_of_the_call_in_a_sandbox() {
        let interfaces = vec![
            interface("eth0", ""),
            interface("veth1", ""),
            interface("eth1", "/ns"),
            interface("eth0", "/ns"),
        ];
        let ips = vec![
            ip("10.0.0.1/24", Some(0)),
            ip("10.0.0.2/24", Some(2)),
            ip("10.0.0.3/24", Some(3)),
            ip("fd00::3/64", None),
            ip("10.0.0.4/24", Some(9)),
        ];
        let result = CniResult { interfaces, ips, ..CniResult::default() };
        let previous = Previous::new(result, &Attachment::new("net", "c", "eth0").unwrap());
        assert_eq!(previous.container(), Some(&interface("eth0", "/ns")));
        let names: Vec<_> = previous.on_host().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["eth0", "veth1"]);
        let addresses: Vec<_> = previous.addresses().map(|one| one.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.3/24", "fd00::3/64"]);
    }
}
