//! What a sync does about nodes behind routers: it refuses them, or makes a tunnel to them.

use kernel::Rtnl;
use kernel::netlink::Message;
use tracing::info;

use super::Reconciler;
use crate::claims::Judged;
use crate::error::Error;
use crate::observed::Observed;
use crate::off_link::{OffLink, OffLinkNodes};
use crate::tunnel::{device, peers, words};

impl Reconciler {
    /// Whether a link is a device of the tunnel.
    pub fn has_tunnel(&self, link: u32) -> bool {
        self.tunnel.has(link)
    }

    /// Where no node may be behind a router: that ends the daemon until a list without such nodes was
    /// there. From then on it is a problem, for to end would help nobody.
    pub(super) fn refuse_off_link(&mut self, judged: &[Judged]) -> Result<Vec<String>, Error> {
        if self.settings.off_link != OffLink::Fail {
            return Ok(Vec::new());
        }
        match OffLinkNodes::of(judged) {
            Some(nodes) if !self.is_flat => Err(nodes.into()),
            Some(nodes) => Ok(vec![nodes.to_string()]),
            None => {
                self.is_flat = self.listed;
                Ok(Vec::new())
            }
        }
    }

    /// Makes the tunnel's devices as they should be. Returns what stands in the way.
    pub(super) fn make_devices(
        &mut self,
        rtnl: &mut Rtnl,
        judged: &[Judged],
        observed: &mut Observed,
    ) -> Result<Vec<String>, Error> {
        if self.settings.off_link != OffLink::Vxlan {
            return Ok(Vec::new());
        }
        let mut problems = Vec::new();
        for _ in 0..device::LOOKS {
            let (wanted, unknown) = device::wanted(judged, observed);
            let (changes, obstacles) = device::changes(&wanted, &observed.tunnel);
            let obstacles = unknown.iter().chain(&obstacles);
            problems = obstacles.map(ToString::to_string).collect();
            if changes.is_empty() {
                break;
            }
            for change in changes {
                match rtnl.request(&change.message()) {
                    Ok(()) => info!("the tunnel: {}", words::of_device(&change)),
                    Err(problem) => problems.push(problem.to_string()),
                }
            }
            *observed = Observed::read(rtnl)?;
        }
        Ok(problems)
    }

    /// Tells the devices of the other ends, before there are routes to them. Returns whether anything
    /// was changed, and what went wrong.
    pub(super) fn set_peers(
        &self,
        rtnl: &mut Rtnl,
        observed: &Observed,
    ) -> Result<(bool, Option<String>), Error> {
        change(rtnl, &peers::missing(&self.desired.peers, &observed.tunnel))
    }

    /// Removes what no route uses any more, as routes are removed: on evidence. Without a tunnel that
    /// is all of it.
    pub(super) fn forget_peers(
        &self,
        rtnl: &mut Rtnl,
        observed: &Observed,
    ) -> Result<(bool, Option<String>), Error> {
        if !self.listed {
            return Ok((false, None));
        }
        if self.settings.off_link == OffLink::Vxlan {
            return change(rtnl, &peers::superfluous(&self.desired.peers, &observed.tunnel));
        }
        let removal = device::removal(&observed.tunnel);
        let gone = removal.iter().map(device::Change::message).collect::<Vec<_>>();
        report(rtnl, &gone, |_| true)
    }
}

fn change(rtnl: &mut Rtnl, changes: &[peers::Change]) -> Result<(bool, Option<String>), Error> {
    let messages: Vec<Message> = changes.iter().map(peers::Change::message).collect();
    report(rtnl, &messages, |place| changes[place].is_deletion())
}

/// Sends the messages. That what a deletion was to take is gone already is as good.
fn report(
    rtnl: &mut Rtnl,
    messages: &[Message],
    is_deletion: impl Fn(usize) -> bool,
) -> Result<(bool, Option<String>), Error> {
    let answers = rtnl.batch(messages)?.into_iter().enumerate();
    let failed = answers.filter_map(|(place, answer)| {
        answer.err().filter(|error| !(is_deletion(place) && error.is_absent()))
    });
    let failed: Vec<_> = failed.collect();
    if !messages.is_empty() {
        info!("the tunnel: {} changes to its other ends", messages.len() - failed.len());
    }
    let problem = failed.first().map(|first| match failed.len() {
        1 => first.to_string(),
        more => format!("{first}; and {} more of this kind", more - 1),
    });
    Ok((!messages.is_empty(), problem))
}
