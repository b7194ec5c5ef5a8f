//! Changes that depend on what was seen.

use nix::errno::Errno;
use nix::libc;

use super::{HEADER, Nft, SUBSYSTEM, bound};
use crate::netlink::{Error, Message, Result};

/// `NFTA_GEN_ID` and `NFNL_BATCH_GENID`.
const GENERATION: u16 = 1;

/// A state of all of a namespace's nf_tables: every transaction, whoever's, makes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(u32);

impl Nft {
    /// The present state, to be asked for before looking at it.
    ///
    /// # Errors
    /// The kernel refuses to say.
    pub fn generation(&mut self) -> Result<Generation> {
        const WHAT: &str = "ask for the generation of nf_tables";
        let header = [libc::AF_UNSPEC as u8, 0, 0, 0];
        let ask = Message::new(WHAT, SUBSYSTEM << 8 | libc::NFT_MSG_GETGEN as u16, 0, &header);
        let unanswered = || Error::NoAnswer { what: WHAT.into() };
        let reply = self.socket.get(&[ask])?.pop().ok_or_else(unanswered)??;
        let number = reply.attributes(HEADER).get(GENERATION).and_then(|number| number.u32_be());
        number.map(Generation).ok_or_else(unanswered)
    }

    /// As [`Nft::commit`], if nobody has changed anything since; else the error is of the kind that
    /// [`is_outdated`] tells.
    ///
    /// # Errors
    /// As [`Nft::commit`].
    pub fn commit_at(&mut self, generation: Generation, changes: &[Message]) -> Result<()> {
        let what = "begin an nf_tables transaction on what was seen";
        let begin = bound(what, libc::NFNL_MSG_BATCH_BEGIN);
        self.transact(&begin.put_u32_be(GENERATION, generation.0), changes)
    }
}

/// Whether somebody changed nf_tables between [`Nft::generation`] and [`Nft::commit_at`].
pub fn is_outdated(error: &Error) -> bool {
    error.is(Errno::ERESTART)
}
