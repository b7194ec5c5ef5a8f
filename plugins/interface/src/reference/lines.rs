//! A table of `iptables-legacy`, for plugins that know what of it is theirs.

use std::net::IpAddr;

use kernel::nft::Family;

use super::legacy::Tool;
use super::listing::{self, Rule};
use crate::error::Result;

/// A table of `iptables-legacy`, as it was listed.
#[derive(Debug)]
pub struct LegacyTable {
    tool: Tool,
    table: &'static str,
    listing: String,
}

impl LegacyTable {
    /// The table that packets of this address pass; `None` where it is not loaded.
    ///
    /// # Errors
    /// The program that lists it fails, or is not there.
    pub fn of(address: IpAddr, table: &'static str) -> Result<Option<Self>> {
        Self::of_family(if address.is_ipv4() { Family::Ip } else { Family::Ip6 }, table)
    }

    /// The table of this family; `None` where it is not loaded.
    ///
    /// # Errors
    /// As [`LegacyTable::of`].
    pub fn of_family(family: Family, table: &'static str) -> Result<Option<Self>> {
        let Some(tool) = Tool::of(family).filter(|tool| tool.has(table)) else { return Ok(None) };
        let listing = tool.list(table)?;
        Ok(Some(LegacyTable { tool, table, listing }))
    }

    /// Whether the table of this family is loaded, which costs no program.
    pub fn is_loaded(family: Family, table: &str) -> bool {
        Tool::of(family).is_some_and(|tool| tool.has(table))
    }

    /// Whether it has all of these rules, each a line as `-S` lists it.
    pub fn has(&self, rules: &[String]) -> bool {
        rules.iter().all(|rule| self.listing.lines().any(|line| line == rule))
    }

    /// All rules in their order, chain by chain.
    pub fn rules(&self) -> Vec<Rule<'_>> {
        listing::rules(&self.listing)
    }

    /// Deletes as many of these rules as are there, once each.
    ///
    /// # Errors
    /// As [`LegacyTable::of`].
    pub fn delete(&self, rules: &[String]) -> Result<()> {
        let there = rules.iter().filter(|rule| self.has(std::slice::from_ref(*rule)));
        let lines: Vec<_> = there.map(|rule| rule.replacen("-A ", "-D ", 1)).collect();
        self.apply(&lines)
    }

    /// Makes these changes, each a line that `iptables-legacy-restore` reads, or none of them.
    ///
    /// # Errors
    /// As [`LegacyTable::of`].
    pub fn apply(&self, changes: &[String]) -> Result<()> {
        self.tool.apply(self.table, changes)
    }
}
