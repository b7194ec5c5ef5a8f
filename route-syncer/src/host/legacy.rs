//! What `iptables-legacy` drops cannot be let through by anything in nf_tables, so it is asked for, and
//! only `check` does so: the program needs capabilities that the daemon has given up.

use std::fs;
use std::process::{Command, Stdio};

/// Where the kernel lists the tables of `iptables-legacy`.
const TABLES: [(&str, &str, &str); 2] = [
    ("/proc/net/ip_tables_names", "iptables-legacy", "IPv4"),
    ("/proc/net/ip6_tables_names", "ip6tables-legacy", "IPv6"),
];

/// What is wrong, with its remedy.
pub fn wrong() -> Vec<String> {
    TABLES.into_iter().filter(|(names, ..)| has_filter(names)).filter_map(ask).collect()
}

fn has_filter(names: &str) -> bool {
    fs::read_to_string(names).is_ok_and(|text| text.lines().any(|line| line == "filter"))
}

fn ask((_, program, family): (&str, &str, &str)) -> Option<String> {
    let mut command = Command::new(program);
    let output = command.args(["-S", "FORWARD"]).stdin(Stdio::null()).output();
    let said = output.ok().filter(|output| output.status.success())?;
    let is_closed = String::from_utf8_lossy(&said.stdout).lines().any(|it| it == "-P FORWARD DROP");
    is_closed.then(|| {
        format!(
            "{program} drops what passes this node in {family} (policy of its chain FORWARD), and no \
             rule of nf_tables can change that; move the host to iptables-nft, or: {program} -P \
             FORWARD ACCEPT"
        )
    })
}
