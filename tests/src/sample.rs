//! Interface plugins as the tests that are the same for all of them use them: a network that does
//! all that the plugin can, and a host that has what it needs.

use kernel::link::{self, Veth, VethPeer};
use kernel::{MacAddress, NetNs, Rtnl, address, route};
use serde_json::{Value, json};

use crate::error::{LabError, Result};
use crate::node::Node;
use crate::plugin::Call;
use crate::pod::Pod;
use crate::runtime::{Attachment, Network, Runtime};
use crate::snapshot::{Shared, Snapshot};
use crate::{bins, require, wait};

/// The host's link to the world, in every scene.
pub const UPLINK: &str = "up0";
/// A link of the host that a Pod may get.
pub const DEVICE: &str = "dev0";

/// A plugin with a network of its own.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Its type.
    pub plugin: &'static str,
    /// What its interface needs that a machine may lack.
    pub needs: Need,
    /// Its keys beside `ipam`, as JSON.
    pub keys: &'static str,
    /// Whether its interface has an end on the host, by which it is found without the Pod.
    pub on_host: bool,
}

/// Something that makes an interface.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// Every machine has it.
    Nothing,
    /// A kind of links, by the name that `rtnetlink` has for it.
    Kind(&'static str),
    /// `/dev/net/tun`: `rtnetlink` makes no taps.
    Tun,
}

/// `bridge`.
pub const BRIDGE: Sample = Sample {
    plugin: "bridge",
    needs: Need::Nothing,
    keys: r#"{"bridge": "cbr0", "isDefaultGateway": true, "hairpinMode": true, "ipMasq": true}"#,
    on_host: true,
};
/// `ptp`.
pub const PTP: Sample =
    Sample { plugin: "ptp", needs: Need::Nothing, keys: r#"{"ipMasq": true}"#, on_host: true };

/// `dummy`.
pub const DUMMY: Sample =
    Sample { plugin: "dummy", needs: Need::Kind("dummy"), keys: "{}", on_host: false };
/// `macvlan`.
pub const MACVLAN: Sample = Sample {
    plugin: "macvlan",
    needs: Need::Kind("macvlan"),
    keys: r#"{"master": "up0", "bcqueuelen": 500}"#,
    on_host: false,
};
/// `ipvlan`.
pub const IPVLAN: Sample = Sample {
    plugin: "ipvlan",
    needs: Need::Kind("ipvlan"),
    keys: r#"{"master": "up0"}"#,
    on_host: false,
};
/// `vlan`.
pub const VLAN: Sample = Sample {
    plugin: "vlan",
    needs: Need::Kind("vlan"),
    keys: r#"{"master": "up0", "vlanId": 100}"#,
    on_host: false,
};
/// `host-device`.
pub const HOST_DEVICE: Sample = Sample {
    plugin: "host-device",
    needs: Need::Nothing,
    keys: r#"{"device": "dev0"}"#,
    on_host: false,
};
/// `tap`.
pub const TAP: Sample = Sample {
    plugin: "tap",
    needs: Need::Tun,
    keys: r#"{"multiQueue": true, "owner": 1000}"#,
    on_host: false,
};

impl Sample {
    /// Whether it can run here; `false` when the test must end, its skip being noted.
    ///
    /// # Errors
    /// What it needs is required, and not there.
    pub fn can_run(&self) -> Result<bool> {
        Ok(require::root()?
            && match self.needs {
                Need::Nothing => true,
                Need::Kind(kind) => require::link_kind(kind)?,
                Need::Tun => require::tun()?,
            })
    }

    /// Whether it gives a Pod what was there before: to one Pod at a time, and as it is. A lent link
    /// that is no hardware dies with the Pod's namespace.
    pub fn lends(&self) -> bool {
        self.plugin == "host-device"
    }

    /// A network of this plugin on this host, in this version of the specification.
    ///
    /// # Errors
    /// The keys are no JSON.
    pub fn network(&self, host: &Node, version: &str) -> Result<Network> {
        let wrong = |error| LabError::Wrong(format!("the keys of {}: {error}", self.plugin));
        let mut plugin: Value = serde_json::from_str(self.keys).map_err(wrong)?;
        plugin["type"] = json!(self.plugin);
        if plugin["ipMasq"] == json!(true) {
            plugin["ipMasq"] = json!(require::has_nf_tables()?);
        }
        if self.lends() {
            plugin["dataDir"] = json!(host.data_dir().join("loans"));
        }
        plugin["ipam"] = json!({
            "type": "host-local",
            "ranges": [[{"subnet": "10.0.1.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]],
            "routes": [{"dst": "10.9.0.0/16"}],
            "dataDir": host.data_dir(),
        });
        Network::from_value(&json!({"cniVersion": version, "name": "net", "plugins": [plugin]}))
    }
}

/// A host and a Pod, and what they were before anything was done to them.
#[derive(Debug)]
pub struct Scene {
    /// The host, with an uplink and a device to spare.
    pub host: Node,
    /// The Pod.
    pub pod: Pod,
    /// The plugin's network.
    pub network: Network,
    sample: Sample,
    before: [Snapshot; 2],
    /// What is beyond the uplink and the device.
    wire: NetNs,
}

impl Scene {
    /// A scene for this plugin, in this version of the specification.
    ///
    /// # Errors
    /// The process may not make namespaces, or the kernel refuses a link, an address or a route.
    pub fn new(sample: &Sample, version: &str) -> Result<Self> {
        let (host, pod, wire) = (Node::create("host")?, Pod::create("pod")?, NetNs::create()?);
        plug_in(&host, &wire)?;
        let before = [Snapshot::take(&host)?, Snapshot::of(pod.netns())?];
        let network = sample.network(&host, version)?;
        Ok(Scene { host, pod, network, sample: *sample, before, wire })
    }

    /// The network as a second Pod can have it beside the first: a tag of a link is one Pod's.
    pub fn network_of_second(&self) -> Network {
        let mut network = self.network.clone();
        if self.sample.plugin == "vlan" {
            network.plugins[0].insert("vlanId".into(), json!(101));
        }
        network
    }

    /// A runtime on the host.
    ///
    /// # Errors
    /// The plugins cannot be found.
    pub fn runtime(&self) -> Result<Runtime<'_>> {
        Ok(Runtime::new(&self.host, bins::plugin_dir()?))
    }

    /// The call of an ADD of the Pod, to be run.
    ///
    /// # Errors
    /// The plugin is not built.
    pub fn add(&self) -> Result<Call> {
        self.runtime()?.call(&self.network, 0, "ADD", Some(&self.pod.attachment()))
    }

    /// The attachment as a DEL must name it for all to go: by the triple alone where that will do,
    /// since a way through the container could hide what is not found by it.
    pub fn last_words(&self) -> Attachment {
        let attachment = self.pod.attachment();
        if self.sample.on_host { attachment.without_netns() } else { attachment }
    }

    /// Asserts that nothing is left on the host but what is shared, and nothing in the Pod.
    ///
    /// # Errors
    /// Something is.
    pub fn assert_nothing_left(&self, case: &str) -> Result<()> {
        self.assert_host_as_before(case)?;
        self.assert_pod_as_before(case)
    }

    /// Asserts that nothing is left in the Pod.
    ///
    /// # Errors
    /// Something is.
    pub fn assert_pod_as_before(&self, case: &str) -> Result<()> {
        let pod = Snapshot::of(self.pod.netns())?;
        nothing_left(&self.before[1], &pod, &format!("{case}: in the Pod"))
    }

    /// Asserts that nothing is left on the host but what is shared.
    ///
    /// # Errors
    /// Something is.
    pub fn assert_host_as_before(&self, case: &str) -> Result<()> {
        let host = Snapshot::take(&self.host)?;
        nothing_left(&self.before[0], &host, &format!("{case}: on the host"))
    }

    /// What is beyond the uplink: 10.100.0.1 and fd00:100::3.
    pub fn wire(&self) -> &NetNs {
        &self.wire
    }
}

fn nothing_left(before: &Snapshot, after: &Snapshot, case: &str) -> Result<()> {
    match before.difference(after, &Shared::with_bridge("cbr0")) {
        Some(left) => Err(LabError::Wrong(format!("{case} is left:\n{left}"))),
        None => Ok(()),
    }
}

/// Gives the host its uplink with a default route, and the spare device, which is down.
fn plug_in(host: &Node, wire: &NetNs) -> Result<()> {
    let mut rtnl = host.rtnl()?;
    for (name, far, last) in [(UPLINK, "far0", 1), (DEVICE, "far1", 2)] {
        let peer = VethPeer { namespace: wire, name: far, mac: None };
        let mac = MacAddress([0x02, 0, 0, 0, 1, last]);
        rtnl.request(&Veth { name, mac, master: None, mtu: None, peer }.create())?;
    }
    let mut beyond = Rtnl::open_in(wire)?;
    for (rtnl, link, addresses) in [
        (&mut beyond, "far0", ["10.100.0.1/24", "fd00:100::3/127"]),
        (&mut rtnl, UPLINK, ["10.100.0.2/24", "fd00:100::2/127"]),
    ] {
        let index = index_of(rtnl, link)?;
        let mut changes = vec![link::set_up(index)];
        changes.extend(
            addresses
                .iter()
                .flat_map(|text| text.parse())
                .map(|one| address::add(index, one, false)),
        );
        rtnl.request_all(&changes)?;
    }
    let uplink = index_of(&mut rtnl, UPLINK)?;
    let device = index_of(&mut rtnl, DEVICE)?;
    let far = index_of(&mut beyond, "far1")?;
    beyond.request(&link::set_up(far))?;
    let mut changes = vec![link::set_down(device)];
    for (any, gateway) in [("0.0.0.0/0", "10.100.0.1"), ("::/0", "fd00:100::3")] {
        if let (Ok(any), Ok(gateway)) = (any.parse(), gateway.parse()) {
            changes.push(route::add(&route::Route::new(any).via(gateway).dev(uplink)));
        }
    }
    rtnl.request_all(&changes)?;
    wait::for_address(host.netns(), uplink, "fd00:100::2")?;
    wait::for_address(wire, index_of(&mut beyond, "far0")?, "fd00:100::3")
}

fn index_of(rtnl: &mut Rtnl, name: &str) -> Result<u32> {
    let found = rtnl.link_by_name(name)?;
    found.map(|link| link.index).ok_or_else(|| LabError::Wrong(format!("no link {name:?}")))
}
