//! Traffic control: queues that limit a rate, and redirection to another link (`tc(8)`,
//! `tc-tbf(8)`, `linux/pkt_sched.h`).

use nix::errno::Errno;
use nix::libc;

use crate::Rtnl;
use crate::netlink::{Attributes, Message, Reply, Result};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

/// `struct tcmsg`.
const HEADER: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;

const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
/// The class of what arrives, of the kinds `ingress` and `clsact` alike.
const ARRIVING: u32 = 0xffff_fff2;
/// The handle that both kinds have, `ffff:`.
const INGRESS_HANDLE: u32 = 0xffff_0000;
/// The handle of a root that limits, `1:`.
const ROOT_HANDLE: u32 = 0x0001_0000;

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
/// `TC_LINKLAYER_ETHERNET`.
const ETHERNET: u8 = 1;
/// Nanoseconds in a tick of the packet scheduler (`PSCHED_SHIFT`).
const TICK: u64 = 64;

const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: u32 = 1;
const TC_ACT_STOLEN: u32 = 4;
/// Where a redirection stands among a link's filters: the mark of those that this module makes.
const PRIORITY: u32 = 0xcb0;
/// `ETH_P_ALL`, in network byte order.
const ANY_PROTOCOL: u32 = (libc::ETH_P_ALL as u16).to_be() as u32;

/// A token bucket (`tbf`): what a link sends is limited to a rate, but for bursts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBucket {
    /// The rate, in bytes a second.
    pub rate: u64,
    /// How long the bucket takes to fill, in ticks of 64 ns: 274 seconds at most.
    pub buffer: u32,
    /// What may wait, in bytes.
    pub limit: u32,
}

impl TokenBucket {
    /// The ticks in a time, or as many as can be said.
    pub fn ticks(nanoseconds: u64) -> u32 {
        u32::try_from(nanoseconds / TICK).unwrap_or(u32::MAX)
    }

    /// The nanoseconds in ticks.
    pub fn nanoseconds(ticks: u32) -> u64 {
        u64::from(ticks) * TICK
    }

    /// Makes it the root of a link, in place of whatever is.
    pub fn replace_root(&self, link: u32) -> Message {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        let what = format!("limit link {link} to {} bytes a second", self.rate);
        qdisc(what, RTM_NEWQDISC, flags, link, ROOT_HANDLE, TC_H_ROOT, "tbf").nest(
            TCA_OPTIONS,
            |options| {
                let options = options.put(TCA_TBF_PARMS, &self.parameters());
                if u32::try_from(self.rate).is_ok() {
                    options
                } else {
                    options.put(TCA_TBF_RATE64, &self.rate.to_ne_bytes())
                }
            },
        )
    }

    /// Takes it from the root of a link; [`is_absent`] if there is none.
    pub fn delete_root(link: u32) -> Message {
        let what = format!("take the limit from link {link}");
        qdisc(what, RTM_DELQDISC, 0, link, ROOT_HANDLE, TC_H_ROOT, "tbf")
    }

    /// `struct tc_tbf_qopt`: the rate, no peak rate, limit, buffer, and no MTU.
    fn parameters(&self) -> [u8; 36] {
        let mut parameters = [0; 36];
        parameters[1] = ETHERNET;
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        parameters[8..12].copy_from_slice(&rate.to_ne_bytes());
        parameters[24..28].copy_from_slice(&self.limit.to_ne_bytes());
        parameters[28..32].copy_from_slice(&self.buffer.to_ne_bytes());
        parameters
    }

    fn parse(options: &Attributes<'_>) -> Option<TokenBucket> {
        let parameters = options.get(TCA_TBF_PARMS)?.value;
        let number = |at: usize| Some(u32::from_ne_bytes(*parameters.get(at..)?.first_chunk()?));
        let wide = options.get(TCA_TBF_RATE64).and_then(|rate| rate.value.first_chunk().copied());
        let rate = wide.map_or(u64::from(number(8)?), u64::from_ne_bytes);
        Some(TokenBucket { rate, limit: number(24)?, buffer: number(28)? })
    }
}

/// A queueing discipline of a link, as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Qdisc {
    /// The link's index.
    pub link: u32,
    /// Its kind, such as `tbf`, `ingress` or `clsact`.
    pub kind: String,
    /// Whether it is the link's root.
    pub is_root: bool,
    /// For a token bucket: what it was told.
    pub bucket: Option<TokenBucket>,
    /// How many packets it has dropped.
    pub drops: u32,
    /// How often a packet had to wait.
    pub overlimits: u32,
}

impl Qdisc {
    /// Whether filters see in it what arrives at the link.
    pub fn is_ingress(&self) -> bool {
        self.kind == "ingress" || self.kind == "clsact"
    }

    fn parse(reply: &Reply) -> Qdisc {
        let attributes = reply.attributes(HEADER);
        let kind = attributes.get(TCA_KIND).map(|kind| kind.text()).unwrap_or_default();
        let options = attributes.get(TCA_OPTIONS).filter(|_| kind == "tbf");
        let statistics = attributes.get(TCA_STATS2).map(|all| all.nested());
        let queue = statistics.and_then(|all| all.get(TCA_STATS_QUEUE));
        // struct gnet_stats_queue: length, backlog, drops, requeues, overlimits
        let count = |at: usize| {
            let bytes = queue.and_then(|queue| queue.value.get(at..)?.first_chunk().copied());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        Qdisc {
            link: reply.u32_at(4),
            is_root: reply.u32_at(12) == TC_H_ROOT,
            bucket: options.and_then(|options| TokenBucket::parse(&options.nested())),
            drops: count(8),
            overlimits: count(16),
            kind,
        }
    }
}

/// Lets filters see what arrives at a link. One that lets them already is no error, but with the
/// kind `clsact` it is `EINVAL`.
pub fn add_ingress(link: u32) -> Message {
    let what = format!("let filters see what arrives at link {link}");
    let flags = libc::NLM_F_CREATE as u16;
    qdisc(what, RTM_NEWQDISC, flags, link, INGRESS_HANDLE, TC_H_INGRESS, "ingress")
}

/// Undoes [`add_ingress`], and removes all filters with it; [`is_absent`] if it is not there.
pub fn delete_ingress(link: u32) -> Message {
    let what = format!("let filters not see what arrives at link {link}");
    qdisc(what, RTM_DELQDISC, 0, link, INGRESS_HANDLE, TC_H_INGRESS, "ingress")
}

/// Sends what arrives at a link out by another.
pub fn redirect(link: u32, to: u32) -> Message {
    let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let what = format!("redirect what arrives at link {link} to link {to}");
    let header = header(link, 0, ARRIVING, PRIORITY << 16 | ANY_PROTOCOL);
    Message::new(what, RTM_NEWTFILTER, flags, &header).put_text(TCA_KIND, "u32").nest(
        TCA_OPTIONS,
        |options| {
            // One key without bits, which every packet has.
            let mut selector = [0; 32];
            selector[0] = TC_U32_TERMINAL;
            selector[2] = 1;
            options.put(TCA_U32_SEL, &selector).nest(TCA_U32_ACT, |actions| {
                const FIRST: u16 = 1;
                actions.nest(FIRST, |action| {
                    action
                        .put_text(TCA_ACT_KIND, "mirred")
                        .nest(TCA_ACT_OPTIONS, |options| options.put(TCA_MIRRED_PARMS, &mirred(to)))
                })
            })
        },
    )
}

/// Removes what [`redirect`] made; [`is_absent`] if there is none.
pub fn delete_redirect(link: u32) -> Message {
    let what = format!("redirect what arrives at link {link} no more");
    let header = header(link, 0, ARRIVING, PRIORITY << 16 | ANY_PROTOCOL);
    Message::new(what, RTM_DELTFILTER, 0, &header)
}

/// Whether a deletion was refused since the thing is not there, or something else is in its place:
/// the kernel does not tell these apart.
pub fn is_absent(error: &crate::Error) -> bool {
    error.is_absent() || error.is(Errno::EINVAL)
}

impl Rtnl {
    /// The queueing disciplines of all links, but for those that the kernel has by itself.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn qdiscs(&mut self) -> Result<Vec<Qdisc>> {
        let message = Message::new("list qdiscs", RTM_GETQDISC, 0, &header(0, 0, 0, 0));
        Ok(self.socket.dump(&message)?.iter().map(Qdisc::parse).collect())
    }

    /// How many filters see what arrives at a link, and the links to which they redirect it.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn redirections(&mut self, link: u32) -> Result<(usize, Vec<u32>)> {
        let what = format!("list the filters of link {link}");
        let message = Message::new(what, RTM_GETTFILTER, 0, &header(link, 0, ARRIVING, 0));
        match self.socket.dump(&message) {
            // There is nothing that filters could see.
            Err(error) if is_absent(&error) => Ok((0, Vec::new())),
            filters => {
                let filters = filters?;
                Ok((filters.len(), filters.iter().filter_map(redirected_to).collect()))
            }
        }
    }
}

/// The link to which a filter of kind `u32` redirects.
fn redirected_to(filter: &Reply) -> Option<u32> {
    let attributes = filter.attributes(HEADER);
    attributes.get(TCA_KIND).filter(|kind| kind.text() == "u32")?;
    let actions = attributes.get(TCA_OPTIONS)?.nested().get(TCA_U32_ACT)?;
    let parameters = actions.nested().find_map(|action| {
        let action = action.nested();
        action.get(TCA_ACT_KIND).filter(|kind| kind.text() == "mirred")?;
        action.get(TCA_ACT_OPTIONS)?.nested().get(TCA_MIRRED_PARMS)
    })?;
    let number = |at: usize| Some(u32::from_ne_bytes(*parameters.value.get(at..)?.first_chunk()?));
    (number(20)? == TCA_EGRESS_REDIR).then(|| number(24))?
}

/// `struct tc_mirred`: index, capabilities, action, two counters, what to do, and to which link.
fn mirred(to: u32) -> [u8; 28] {
    let mut parameters = [0; 28];
    parameters[8..12].copy_from_slice(&TC_ACT_STOLEN.to_ne_bytes());
    parameters[20..24].copy_from_slice(&TCA_EGRESS_REDIR.to_ne_bytes());
    parameters[24..28].copy_from_slice(&to.to_ne_bytes());
    parameters
}

fn qdisc(
    what: String,
    message: u16,
    flags: u16,
    link: u32,
    handle: u32,
    parent: u32,
    kind: &str,
) -> Message {
    Message::new(what, message, flags, &header(link, handle, parent, 0)).put_text(TCA_KIND, kind)
}

/// `struct tcmsg`.
fn header(link: u32, handle: u32, parent: u32, info: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..12].copy_from_slice(&handle.to_ne_bytes());
    header[12..16].copy_from_slice(&parent.to_ne_bytes());
    header[16..20].copy_from_slice(&info.to_ne_bytes());
    header
}

#[cfg(test)]
mod tests;
