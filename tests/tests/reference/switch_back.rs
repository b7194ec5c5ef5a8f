//! The other way round: what we made, the reference takes away, as far as it can see it.

use cbr0_tests::Outcome;
use cbr0_tests::pod::Pod;
use cbr0_tests::snapshot::{Shared, Snapshot};

use crate::fixture::{Backend, Scene};

#[test]
fn the_reference_s_del_ends_the_interface_and_our_gc_the_rest() -> Outcome {
    for backend in Backend::ALL {
        let Some(scene) = Scene::new(backend)? else { return Ok(()) };
        let network = scene.network("net", &["10.1.0.0/24", "fd00:1::/64"]);
        scene.warm_up(&network)?;
        let mut ours = scene.ours()?;
        let stays = Pod::create("stays")?;
        ours.add(&network, &stays.attachment())?;
        let before = Snapshot::take(scene.node())?;

        let pod = Pod::create("pod")?;
        ours.add(&network, &pod.attachment())?;
        scene.assert_masqueraded(&pod, 2)?;
        scene.theirs().del(&network, &pod.attachment())?;
        let links = kernel::Rtnl::open_in(pod.netns())?.links()?;
        assert_eq!(links.len(), 1, "{links:?}");
        ours.gc(&network, &[&stays.attachment()])?;
        let difference =
            before.difference(&Snapshot::take(scene.node())?, &Shared::after_warm_up());
        assert_eq!(difference.map(|it| it.to_string()), None, "{backend:?}");
        scene.assert_masqueraded(&stays, 2)?;
    }
    Ok(())
}
