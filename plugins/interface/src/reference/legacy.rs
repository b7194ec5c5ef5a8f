//! `iptables-legacy`, whose tables are no nf_tables and have no interface of their own: it is the
//! one thing that a program is executed for, and only in a namespace that has the table.
//!
//! It lists each rule as the arguments that make it, and `iptables-legacy-restore` takes such lines
//! and applies them in one go. So a rule that was listed is deleted by the very line.

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};

use kernel::nft::Family;

use super::chains::Chains;
use super::listing::{self, Rule, deletions};
use super::{Removal, masquerade};
use crate::Valid;
use crate::error::{Error, Result};

/// How long the programs wait for others that change tables, in seconds.
const PATIENCE: &str = "5";

/// Removes an owner's chains and the rules that lead there.
///
/// Whether there are any is not known where the program cannot be asked. That is told as an error
/// if the attachment was certainly made by the reference plugin. Otherwise the table may be loaded
/// for any other reason, and a DEL that fails for ever, on a node whose iptables has been taken
/// away, would be worse than a rule that may be left.
pub(super) fn remove(chains: &Chains, removal: Removal<'_>) -> Result<()> {
    let Some(tool) = Tool::of(chains.family).filter(|tool| tool.has(chains.table)) else {
        return Ok(());
    };
    let listing = match tool.list(chains.table) {
        Err(_) if !removal.of_reference => return Ok(()),
        listing => listing?,
    };
    if deletions(&listing, chains, &[]).is_empty() {
        return Ok(());
    }
    tool.apply(chains.table, &deletions(&listing, chains, &removal.addresses_in_use()?))
}

/// Removes the masquerading of the network's containers that are not valid. As with [`remove`], a
/// program that is not there leaves things as they are.
pub(super) fn collect(family: Family, valid: &Valid<'_>) -> Result<()> {
    let Some(tool) = Tool::of(family).filter(|tool| tool.has("nat")) else { return Ok(()) };
    let Ok(listing) = tool.list("nat") else { return Ok(()) };
    let rules = listing::rules(&listing);
    let stale = masquerade::stale(rules.iter().map(Rule::comment), valid).into_iter();
    let chains = stale.map(|id| masquerade::of_iptables(family, valid.network, id));
    Error::all(chains.map(|chains| tool.apply(chains.table, &deletions(&listing, &chains, &[]))))
}

/// The addresses that lead to an owner's chains.
pub(super) fn sources(chains: &Chains) -> Result<Vec<IpAddr>> {
    match Tool::of(chains.family).filter(|tool| tool.has(chains.table)) {
        Some(tool) => Ok(listing::sources(&tool.list(chains.table)?, chains)),
        None => Ok(Vec::new()),
    }
}

/// The program of a family.
#[derive(Debug)]
pub(super) struct Tool {
    name: &'static str,
    /// The file of `/proc` that lists the tables of the namespace.
    tables: &'static str,
}

impl Tool {
    pub(super) fn of(family: Family) -> Option<Tool> {
        let tool = |name, tables| Some(Tool { name, tables });
        match family {
            Family::Ip => tool("iptables-legacy", "/proc/thread-self/net/ip_tables_names"),
            Family::Ip6 => tool("ip6tables-legacy", "/proc/thread-self/net/ip6_tables_names"),
            Family::Inet | Family::Bridge => None,
        }
    }

    /// Whether the namespace has the table. There is no list without the kernel's module.
    pub(super) fn has(&self, table: &str) -> bool {
        fs::read_to_string(self.tables).is_ok_and(|list| list.lines().any(|line| line == table))
    }

    /// All chains and rules of a table, a line each.
    pub(super) fn list(&self, table: &str) -> Result<String> {
        let arguments = ["-w", PATIENCE, "-t", table, "-S"];
        let output =
            self.failing(self.name, table, Command::new(self.name).args(arguments).output())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes these changes together or none of them.
    pub(super) fn apply(&self, table: &str, lines: &[String]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let program = format!("{}-restore", self.name);
        let input = format!("*{table}\n{}\nCOMMIT\n", lines.join("\n"));
        let run = || {
            let mut child = Command::new(&program)
                .args(["-w", PATIENCE, "--noflush"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes())?;
            }
            child.wait_with_output()
        };
        self.failing(&program, table, run()).map(drop)
    }

    fn failing(&self, program: &str, table: &str, ran: std::io::Result<Output>) -> Result<Output> {
        let failure =
            |why| Error::Iptables { program: program.to_owned(), table: table.to_owned(), why };
        match ran {
            Ok(output) if output.status.success() => Ok(output),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(failure(format!("{}: {}", output.status, said.trim())))
            }
            Err(error) => Err(failure(error.to_string())),
        }
    }
}
