//! nf_tables: the tables, and everything in them.

use std::collections::HashMap;

use kernel::nft::{Family, KeyType, Nft, Set, SetKind, Table};

use super::{Snapshot, Subject};
use crate::error::Result;

impl Snapshot {
    pub(super) fn read_nft(&mut self, nft: &mut Nft) -> Result<()> {
        for (family, name) in nft.tables()? {
            self.read_table(nft, &Table { family, name: &name })?;
        }
        Ok(())
    }

    fn read_table(&mut self, nft: &mut Nft, table: &Table<'_>) -> Result<()> {
        self.tell_nft(table, "table".to_owned(), String::new());
        for chain in nft.chains(table)? {
            self.tell_nft(table, format!("chain {chain}"), String::new());
        }
        let mut rules_before = HashMap::<String, usize>::new();
        for rule in nft.rules(table)? {
            let state = format!("{:?} {}", rule.comment, hex(&rule.expressions));
            let number = rules_before.entry(rule.chain.clone()).or_default();
            *number += 1;
            self.tell_nft(table, format!("rule {} {number}", rule.chain), state);
        }
        for set in nft.sets(table)? {
            self.tell_nft(table, format!("set {}", set.name), set.comment.clone());
            // A listing asks by name alone; type and kind of the set do not matter to it.
            let named =
                Set { table: *table, name: &set.name, key: KeyType::Ipv4, kind: SetKind::Keys };
            for element in nft.elements(&named)?.unwrap_or_default() {
                let end = if element.ends_interval { " (end)" } else { "" };
                let object = format!("element of {} {}{end}", set.name, hex(&element.key));
                let to = (&element.verdict, &element.target);
                self.tell_nft(table, object, format!("{to:?} {:?}", element.comment));
            }
        }
        Ok(())
    }

    fn tell_nft(&mut self, table: &Table<'_>, object: String, state: String) {
        let family = match table.family {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Bridge => "bridge",
        };
        self.tell(Subject::Nft { table: format!("{family} {}", table.name), object }, state);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
