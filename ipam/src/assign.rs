//! One address of each range set for an attachment: all of them, or none.

use std::net::IpAddr;

use cni_conf::error::CniError;
use cni_conf::result::IpConfig;

use crate::allocate::{self, AllocateError};
use crate::config::Config;
use crate::range::Range;
use crate::range_set::RangeSet;
use crate::store::{Holder, Ledger};

/// An ADD while it holds the lock.
struct Assignment<'a> {
    ledger: &'a mut Ledger,
    holder: &'a Holder,
    /// What the attachment had before.
    held: Vec<IpAddr>,
    /// What nobody shall have yet, if there is another.
    resting: Vec<IpAddr>,
    /// What this ADD has reserved.
    made: Vec<IpAddr>,
}

/// Reserves an address of each set: the one wished for, or the next one. On an error, what this
/// call has reserved is free again.
///
/// # Errors
/// No address, or not the one that was wished for; or the store's.
pub(crate) fn assign(
    ledger: &mut Ledger,
    config: &Config,
    wishes: &[Option<IpAddr>],
    holder: &Holder,
) -> Result<Vec<IpConfig>, CniError> {
    let held = ledger.addresses_of(holder)?;
    if !config.idempotent_add {
        allocate::check_duplicate(&config.sets, &held, holder.container_id())?;
    }
    let resting = ledger.freed_within(config.rest_time);
    let mut assignment = Assignment { ledger, holder, held, resting, made: Vec::new() };
    let sets = config.sets.iter().zip(wishes).enumerate();
    let ips = sets.map(|(index, (set, wish))| assignment.one_of(index, set, *wish)).collect();
    if Result::is_err(&ips) {
        assignment.take_back();
    }
    ips
}

impl Assignment<'_> {
    fn one_of(
        &mut self,
        index: usize,
        set: &RangeSet,
        wish: Option<IpAddr>,
    ) -> Result<IpConfig, CniError> {
        let (address, range) = match (self.held_of(set), wish) {
            (Some((held, _)), Some(wish)) if held != wish => {
                let container_id = self.holder.container_id().to_owned();
                return Err(AllocateError::Duplicate { index, address: held, container_id }.into());
            }
            (Some(held), _) => held,
            (None, Some(wish)) => self.reserve_wished(index, set, wish)?,
            (None, None) => self.reserve_next(index, set)?,
        };
        let (address, gateway) = (range.with_prefix(address), Some(range.gateway()));
        Ok(IpConfig { interface: None, address, gateway })
    }

    /// What the attachment had of this set before.
    fn held_of<'a>(&self, set: &'a RangeSet) -> Option<(IpAddr, &'a Range)> {
        self.held.iter().find_map(|held| Some((*held, set.range_of(*held)?)))
    }

    fn reserve_wished<'a>(
        &mut self,
        index: usize,
        set: &'a RangeSet,
        wish: IpAddr,
    ) -> Result<(IpAddr, &'a Range), CniError> {
        let taken = || AllocateError::RequestedTaken { index, address: wish, set: set.to_string() };
        let range = set.range_of(wish).ok_or_else(taken)?;
        if !self.reserve(index, wish)? {
            return Err(taken().into());
        }
        Ok((wish, range))
    }

    fn reserve_next<'a>(
        &mut self,
        index: usize,
        set: &'a RangeSet,
    ) -> Result<(IpAddr, &'a Range), CniError> {
        let last = self.ledger.last_reserved(index);
        loop {
            let next_free = |from, to| self.ledger.next_free(from, to);
            let chosen = allocate::choose(set, last, &self.resting, next_free)?;
            let exhausted = || AllocateError::Exhausted { index, set: set.to_string() };
            let (address, range) = chosen.ok_or_else(exhausted)?;
            // What turns out to be taken is known as such then, so this ends.
            if self.reserve(index, address)? {
                return Ok((address, range));
            }
        }
    }

    /// Reserves an address and notes it as the set's last; false if it is somebody's.
    fn reserve(&mut self, index: usize, address: IpAddr) -> Result<bool, CniError> {
        if !self.ledger.reserve(address, self.holder)? {
            return Ok(false);
        }
        self.made.push(address);
        self.ledger.set_last_reserved(index, address)?;
        Ok(true)
    }

    /// What cannot be taken back is left to the DEL that a runtime sends after a failed ADD; the
    /// first error is the one to report.
    fn take_back(&mut self) {
        for address in std::mem::take(&mut self.made) {
            self.ledger.unreserve(address, self.holder).ok();
        }
    }
}
