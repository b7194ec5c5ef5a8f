//! Making it so: the changes, sent to the kernel.

use kernel::Rtnl;
use kernel::route;

use crate::difference::Change;
use crate::observed::Route;

/// Sends the changes, in their order, and returns an answer for each. One that fails does not stop
/// those behind it.
///
/// A new route is made with `NLM_F_EXCL`: should another have come since the kernel was read, the
/// answer is `EEXIST`, and the next reading tells whose it is. Without the flag IPv6 would add a
/// second next hop, and half of the flows would go to the wrong node.
///
/// # Errors
/// The socket fails; then it is unknown which changes took effect.
pub fn apply(rtnl: &mut Rtnl, changes: &[Change]) -> kernel::Result<Vec<kernel::Result<()>>> {
    let message = |change: &Change| match change {
        Change::Add(route) => route::add(&kernel_route(route)),
        Change::Replace(route) => route::replace(&kernel_route(route)),
        Change::Delete(route) => route::delete(&kernel_route(route)),
    };
    let answers = rtnl.batch(&changes.iter().map(message).collect::<Vec<_>>())?;
    let judged = answers.into_iter().zip(changes).map(|(answer, change)| match (answer, change) {
        // Somebody was faster.
        (Err(error), Change::Delete(_)) if error.is_absent() => Ok(()),
        (answer, _) => answer,
    });
    Ok(judged.collect())
}

/// All that is known of the route goes into the message. What a deletion does not name it does not
/// compare, and it might take a foreign route away.
fn kernel_route(route: &Route) -> route::Route {
    route::Route {
        gateway: route.gateway,
        link: route.link,
        protocol: route.protocol,
        priority: route.metric,
        kind: route.kind,
        scope: route.scope,
        ..route::Route::new(route.destination)
    }
}
