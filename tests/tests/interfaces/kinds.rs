//! A kernel that cannot make a kind of link: STATUS says so before an ADD has to.

use cbr0_tests::plugin::PluginError;
use cbr0_tests::sample::{DUMMY, IPVLAN, MACVLAN, Need, Scene, TAP, VLAN};
use cbr0_tests::{Outcome, Result, require};
use kernel::{NetNs, Rtnl};

use crate::fixture::{assert_error, refused};
use crate::vrf;

fn is_known(kind: &str) -> Result<bool> {
    Ok(Rtnl::open_in(&NetNs::create()?)?.knows_link_kind(kind)?)
}

/// Where the kernel has all of them, this shows that STATUS is well and leaves nothing.
#[test]
fn status_and_add_tell_of_a_kind_that_the_kernel_lacks() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    for (sample, module) in
        [(DUMMY, "dummy"), (MACVLAN, "macvlan"), (IPVLAN, "ipvlan"), (VLAN, "8021q")]
    {
        let Need::Kind(kind) = sample.needs else { unreachable!() };
        told(&Scene::new(&sample, "1.1.0")?, kind, module)?;
    }
    Ok(told(&vrf::chained_behind_bridge()?, "vrf", "vrf")?)
}

fn told(scene: &Scene, kind: &str, module: &str) -> Result<()> {
    let mut runtime = scene.runtime()?;
    if is_known(kind)? {
        runtime.status(&scene.network)?;
    } else {
        let remedy = format!("(module {module})");
        assert_error(&refused(runtime.status(&scene.network)), 50, &remedy);
        scene.assert_nothing_left(kind)?;
        assert_error(&refused(runtime.add(&scene.network, &scene.pod.attachment())), 100, &remedy);
        runtime.del(&scene.network, &scene.pod.attachment())?;
    }
    scene.assert_nothing_left(kind)
}

#[test]
fn status_and_add_tell_of_a_machine_without_taps() -> Outcome {
    if !require::root()? {
        return Ok(());
    }
    let scene = Scene::new(&TAP, "1.1.0")?;
    for (verb, code) in [("STATUS", 50), ("ADD", 100)] {
        let error = without_tun(&scene, verb)?;
        assert_error(&error, code, "/dev/net/tun and CONFIG_TUN (module tun)");
        scene.assert_nothing_left(verb)?;
    }
    Ok(())
}

/// What a verb answers where the folder of the device file is empty.
fn without_tun(scene: &Scene, verb: &str) -> Result<PluginError> {
    let attachment = scene.pod.attachment();
    let attachment = (verb != "STATUS").then_some(&attachment);
    let call = scene.runtime()?.call(&scene.network, 0, verb, attachment)?;
    let hide = "mount -t tmpfs none /dev/net && exec \"$@\"";
    let answer = call.under(["unshare", "--mount", "sh", "-c", hide, "sh"]).run(&scene.host)?;
    Ok(answer.failure().unwrap())
}
