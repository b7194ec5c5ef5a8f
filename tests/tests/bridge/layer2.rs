//! Networks without addresses.

use cbr0_tests::Outcome;
use cbr0_tests::pod::Pod;
use kernel::{Rtnl, link};
use serde_json::json;

use crate::fixture::{Host, assert_error, refused};

#[test]
fn an_interface_may_be_left_down_and_is_checked_so() -> Outcome {
    for (down, up) in [(true, false), (false, true)] {
        let Some(host) = Host::new()? else { return Ok(()) };
        let keys =
            json!({"ipam": {}, "isDefaultGateway": false, "disableContainerInterface": down});
        let network = host.network(&keys);
        let before = host.warm_up(&network)?;
        let pod = Pod::create("pod")?;
        let mut runtime = host.runtime()?;
        let result = runtime.add(&network, &pod.attachment())?;
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
        let mut inside = Rtnl::open_in(pod.netns())?;
        let eth0 = inside.link_by_name("eth0")?.unwrap();
        assert_eq!(eth0.is_up(), up);
        runtime.check(&network, &pod.attachment())?;
        inside.request(&link::set_down(eth0.index))?;
        if up {
            let error = refused(runtime.check(&network, &pod.attachment()));
            assert_error(&error, 102, "\"eth0\" is down");
        }
        runtime.del(&network, &pod.attachment())?;
        host.assert_as(&before)?;
    }
    Ok(())
}
