//! `macspoofchk`: the container sends from its own hardware address only.
//!
//! ```text
//! table bridge nat {
//!     chain PREROUTING { iifname "veth…" jump cni-br-iface-<id>-<if> }        shared
//!     chain cni-br-iface-<id>-<if> { jump cni-br-iface-<id>-<if>-mac }
//!     chain cni-br-iface-<id>-<if>-mac { ether saddr <mac> return; drop }
//! }
//! ```

use cni_conf::attachment::Attachment;
use kernel::nft::Family;

use super::chains::Chains;
use super::{Leftover, names};

/// What there may be of an attachment.
pub(super) fn leftovers(attachment: &Attachment) -> Vec<Leftover> {
    let own = names::spoof_check(attachment);
    vec![Leftover::Chains(Chains {
        family: Family::Bridge,
        table: "nat",
        entrance: "PREROUTING",
        names: vec![format!("cni-br-iface-{own}"), format!("cni-br-iface-{own}-mac")],
        comment: format!("macspoofchk-{own}"),
    })]
}
