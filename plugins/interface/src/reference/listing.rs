//! Rules as `iptables-legacy -S` lists them: the words that make them, in a form that
//! `iptables-legacy-restore` reads.

use std::net::IpAddr;

use super::chains::Chains;

/// One rule of a listing.
#[derive(Debug)]
pub struct Rule<'a> {
    line: &'a str,
    words: Vec<String>,
}

impl<'a> Rule<'a> {
    /// The rule in a line; `None` for lines that are about chains.
    fn parse(line: &'a str) -> Option<Self> {
        line.starts_with("-A ").then(|| Rule { line, words: words(line) })
    }

    /// What deletes it: the same line with another verb.
    pub fn deletion(&self) -> String {
        self.line.replacen("-A ", "-D ", 1)
    }

    /// Whether it is in this chain.
    pub fn is_in(&self, chain: &str) -> bool {
        self.value("-A") == Some(chain)
    }

    /// Whether it leads to this chain.
    pub fn leads_to(&self, chain: &str) -> bool {
        self.value("-j").or_else(|| self.value("-g")) == Some(chain)
    }

    fn is_entry(&self, chains: &Chains) -> bool {
        self.is_in(chains.entrance) && chains.names.first().is_some_and(|it| self.leads_to(it))
    }

    /// Its comment; empty if it has none.
    pub fn comment(&self) -> &str {
        self.value("--comment").unwrap_or_default()
    }

    /// The one address that a packet must come from.
    fn source(&self) -> Option<IpAddr> {
        let (address, prefix) = self.value("-s")?.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        (prefix == if address.is_ipv4() { "32" } else { "128" }).then_some(address)
    }

    /// The word behind this option.
    pub fn value(&self, option: &str) -> Option<&str> {
        let place = self.words.iter().position(|word| word == option)?;
        self.words.get(place + 1).map(String::as_str)
    }
}

/// The rules of a listing.
pub(super) fn rules(listing: &str) -> Vec<Rule<'_>> {
    listing.lines().filter_map(Rule::parse).collect()
}

/// What removes an owner's rules and chains from a table with this listing, as
/// [`Chains::remove`] does from nf_tables.
pub(super) fn deletions(listing: &str, chains: &Chains, in_use: &[IpAddr]) -> Vec<String> {
    let is_own = |rule: &Rule<'_>| rule.comment() == chains.comment;
    let is_inside = |rule: &Rule<'_>| chains.names.iter().any(|name| rule.is_in(name));
    let is_needed = |rule: &Rule<'_>| rule.source().is_some_and(|source| in_use.contains(&source));

    let (entries, others): (Vec<_>, Vec<_>) =
        rules(listing).into_iter().partition(|rule| is_own(rule) && rule.is_entry(chains));
    let (needed, gone): (Vec<_>, Vec<_>) = entries.into_iter().partition(is_needed);
    let gone = gone.iter().map(Rule::deletion);
    if !needed.is_empty() {
        return gone.collect();
    }
    let (inside, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|rule| is_own(rule) && is_inside(rule));
    let is_there = |name: &&String| listing.lines().any(|line| line == format!("-N {name}"));
    let is_unused =
        |name: &&String| !others.iter().any(|rule| rule.is_in(name) || rule.leads_to(name));
    let unused = chains.names.iter().filter(is_there).filter(is_unused);
    gone.chain(inside.iter().map(Rule::deletion))
        .chain(unused.map(|name| format!("-X {name}")))
        .collect()
}

/// The addresses that lead to an owner's chains in a table with this listing, as
/// [`Chains::sources`] finds them in nf_tables.
pub(super) fn sources(listing: &str, chains: &Chains) -> Vec<IpAddr> {
    let is_own = |rule: &Rule<'_>| rule.comment() == chains.comment && rule.is_entry(chains);
    rules(listing).iter().filter(|rule| is_own(rule)).filter_map(Rule::source).collect()
}

/// The words of a line, some of which stand in quotes with marks before quotes and marks in them.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (character, words.last_mut()) {
            ('"', _) => quoted = !quoted,
            (' ', _) if !quoted => words.push(String::new()),
            ('\\', Some(word)) => word.extend(characters.next()),
            (character, Some(word)) => word.push(character),
            (_, None) => {}
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use kernel::nft::Family;

    use super::*;

    const LISTING: &str = r#"-P POSTROUTING ACCEPT
-N CNI-1
-N CNI-2
-A POSTROUTING -s 10.1.0.5/32 -m comment --comment "name: \"net\" id: \"a\"" -j CNI-1
-A POSTROUTING -s 10.1.0.6/32 -m comment --comment "name: \"net\" id: \"a\"" -j CNI-1
-A POSTROUTING -s 10.1.0.5/32 -m comment --comment "name: \"net\" id: \"b\"" -j CNI-2
-A CNI-1 -d 10.1.0.0/16 -m comment --comment "name: \"net\" id: \"a\"" -j ACCEPT
-A CNI-2 -d 10.1.0.0/16 -m comment --comment "name: \"net\" id: \"b\"" -j ACCEPT
"#;

    fn chains() -> Chains {
        Chains {
            family: Family::Ip,
            table: "nat",
            entrance: "POSTROUTING",
            names: vec!["CNI-1".into()],
            comment: "name: \"net\" id: \"a\"".into(),
        }
    }

    /// The deletions, by the numbers of the lines that they are made of.
    fn removed(listing: &str, in_use: &[&str]) -> (Vec<usize>, Vec<String>) {
        let in_use: Vec<_> = in_use.iter().filter_map(|address| address.parse().ok()).collect();
        let lines: Vec<_> = listing.lines().map(|line| line.replacen("-A ", "-D ", 1)).collect();
        let (rules, chains): (Vec<_>, Vec<_>) = deletions(listing, &chains(), &in_use)
            .into_iter()
            .partition(|line| line.starts_with("-D "));
        let place = |rule: &String| lines.iter().position(|line| line == rule);
        (rules.iter().filter_map(place).collect(), chains)
    }

    #[test]
    fn what_has_the_comment_goes_with_its_chain() {
        assert_eq!(removed(LISTING, &[]), (vec![3, 4, 6], vec!["-X CNI-1".to_owned()]));
    }

    #[test]
    fn what_leads_to_the_owners_chains_is_masqueraded() {
        let found: Vec<_> = sources(LISTING, &chains()).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.1.0.5", "10.1.0.6"]);
    }

    #[test]
    fn an_address_in_use_keeps_the_chain() {
        assert_eq!(removed(LISTING, &["10.1.0.6"]), (vec![3], vec![]));
    }

    #[test]
    fn a_chain_that_others_lead_to_or_are_in_stays() {
        for foreign in ["-A OUTPUT -g CNI-1", "-A OUTPUT -o lo -j CNI-1", "-A CNI-1 -j RETURN"] {
            let listing = format!("{LISTING}{foreign}\n");
            assert_eq!(removed(&listing, &[]), (vec![3, 4, 6], vec![]), "{foreign}");
        }
    }

    #[test]
    fn nothing_is_removed_where_nothing_is() {
        assert_eq!(removed("-P POSTROUTING ACCEPT\n", &[]), (vec![], vec![]));
    }

    #[test]
    fn words_are_what_was_meant() {
        assert_eq!(
            words(r#"-A a --comment "x \"y\" \\ -j z" -j b"#),
            ["-A", "a", "--comment", r#"x "y" \ -j z"#, "-j", "b"]
        );
    }
}
