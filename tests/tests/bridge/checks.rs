//! CHECK notices each thing that ADD made and that has gone or changed since.

use cbr0_tests::pod::Pod;
use cbr0_tests::{Outcome, Result};
use kernel::nft::{Chain, Element, Family, KeyType, Nft, Set, SetKind, Table};
use kernel::{MacAddress, Rtnl, address, link, route, sysctl};
use serde_json::json;

use crate::fixture::{Host, assert_error, host_end, refused};

/// What a damage has to work with.
struct Scene<'a> {
    host: &'a Host,
    pod: &'a Pod,
    /// The index of the host's end.
    port: u32,
}

impl Scene<'_> {
    fn inside(&self) -> Result<(Rtnl, u32)> {
        let mut rtnl = Rtnl::open_in(self.pod.netns())?;
        let index = rtnl.link_by_name("eth0")?.unwrap().index;
        Ok((rtnl, index))
    }

    fn bridge(&self) -> Result<u32> {
        Ok(self.host.link("cbr0")?.unwrap().index)
    }

    /// Takes the rules of a chain of the masquerading away.
    fn flush(&self, chain: &str) -> Result<()> {
        let table = Table { family: Family::Inet, name: "cbr0_masquerade" };
        let chain = Chain { table, name: chain };
        Ok(Nft::open_in(self.host.node.netns())?.commit(&[chain.flush()])?)
    }
}

type Damage = fn(&Scene<'_>) -> Result<()>;

const DAMAGES: [(&str, Damage); 13] = [
    ("the host's end of \"cbr0/pod/eth0\" is gone", |scene| {
        Ok(scene.host.node.rtnl()?.request(&link::delete(scene.port))?)
    }),
    ("hairpin mode", |scene| {
        Ok(scene.host.node.rtnl()?.request(&link::set_hairpin(scene.port, false))?)
    }),
    ("the host's end of \"cbr0/pod/eth0\" is gone", |scene| {
        Ok(scene.host.node.rtnl()?.request(&link::set_alias(scene.port, "somebody/else/eth0"))?)
    }),
    ("lost the gateway address 10.0.1.1/24", |scene| {
        Ok(scene
            .host
            .node
            .rtnl()?
            .request(&address::delete(scene.bridge()?, "10.0.1.1/24".parse().unwrap()))?)
    }),
    ("bridge \"cbr0\" is gone", |scene| {
        Ok(scene.host.node.rtnl()?.request(&link::delete(scene.bridge()?))?)
    }),
    ("MAC address", |scene| {
        let (mut rtnl, eth0) = scene.inside()?;
        Ok(rtnl.request(&link::set_mac(eth0, MacAddress([2, 0, 0, 0, 0, 9])))?)
    }),
    ("lost the address 10.0.1.2/24", |scene| {
        let (mut rtnl, eth0) = scene.inside()?;
        Ok(rtnl.request(&address::delete(eth0, "10.0.1.2/24".parse().unwrap()))?)
    }),
    ("lost the route to 0.0.0.0/0 via 10.0.1.1", |scene| {
        let (mut rtnl, _) = scene.inside()?;
        Ok(rtnl.request(&route::delete(&route::Route::new("0.0.0.0/0".parse().unwrap())))?)
    }),
    ("ip_forward is off", |scene| {
        Ok(scene.host.node.netns().run(|| sysctl::set("net/ipv4/ip_forward", "0").map(drop))??)
    }),
    ("10.0.1.2/24 is not masqueraded any more", |scene| {
        let table = Table { family: Family::Inet, name: "cbr0_masquerade" };
        let map = Set { table, name: "sources4", key: KeyType::Ipv4, kind: SetKind::VerdictMap };
        let element = Element::new("10.0.1.2".parse().unwrap());
        Ok(Nft::open_in(scene.host.node.netns())?.commit(&map.delete_elements(&[element]))?)
    }),
    ("nf_tables chain \"postrouting\" has lost rules", |scene| scene.flush("postrouting")),
    ("nf_tables chain \"leaving\" has lost rules", |scene| scene.flush("leaving")),
    ("Failed to find address added by container pod", |scene| {
        let file = scene.host.node.data_dir().join("cbr0/10.0.1.2");
        std::fs::remove_file(file).unwrap();
        Ok(())
    }),
];

#[test]
fn every_damage_is_noticed_and_told() -> Outcome {
    for (words, damage) in DAMAGES {
        let Some(host) = Host::masquerading()? else { return Ok(()) };
        let network = host.network(&json!({"ipMasq": true}));
        let pod = Pod::create("pod")?;
        let mut runtime = host.runtime()?;
        let result = runtime.add(&network, &pod.attachment())?;
        runtime.check(&network, &pod.attachment())?;

        let port = host.link(host_end(&result))?.unwrap().index;
        damage(&Scene { host: &host, pod: &pod, port })?;
        assert_error(&refused(runtime.check(&network, &pod.attachment())), 102, words);
        runtime.del(&network, &pod.attachment())?;
    }
    Ok(())
}

#[test]
fn a_network_without_addresses_is_checked_too() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = host.network(&json!({"ipam": {}}));
    let pod = Pod::create("pod")?;
    let mut runtime = host.runtime()?;
    let result = runtime.add(&network, &pod.attachment())?;
    assert_eq!(result.get("ips"), None);
    runtime.check(&network, &pod.attachment())?;
    host.node.rtnl()?.request(&link::delete(host.link(host_end(&result))?.unwrap().index))?;
    assert_error(&refused(runtime.check(&network, &pod.attachment())), 102, "is gone");
    Ok(())
}

#[test]
fn without_the_result_of_the_add_nothing_can_be_checked() -> Outcome {
    let Some(host) = Host::new()? else { return Ok(()) };
    let network = host.network(&json!({}));
    let pod = Pod::create("pod")?;
    host.runtime()?.add(&network, &pod.attachment())?;
    // Another runtime has no result of it.
    let error = refused(host.runtime()?.check(&network, &pod.attachment()));
    assert!(error.msg.contains("prevResult"), "{error}");
    Ok(())
}
