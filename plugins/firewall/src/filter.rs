//! The containers' rules in the tables of `iptables-nft`.
//!
//! Where a distribution or Docker lets nothing pass by default, it does so in the chain `FORWARD` of
//! the tables `ip filter` and `ip6 filter`. What another table accepts they drop all the same, so
//! the rules must be there, in the words of `iptables-nft`, to which the tables belong:
//!
//! ```text
//! -A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD          the first
//! -A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN
//! -A CNI-FORWARD -d 10.0.1.5/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
//! -A CNI-FORWARD -s 10.0.1.5/32 -j ACCEPT
//! ```
//!
//! They are the reference's, to the letter, so that either plugin finds what the other made. Whose a
//! rule is stands where neither program shows it. Where there is no such chain nothing is in the
//! containers' way, and nothing is made.

use std::net::IpAddr;

use kernel::netlink::Message;
use kernel::nft::{Chain, Expression, Family, Field, Nft, RuleInfo, Table, Verdict, Xtables};
use plugin_interface::Result;

/// The name of the plugin's chain.
pub(crate) const PRIVATE: &str = "CNI-FORWARD";
/// The plugin's chains.
pub(crate) const PRIVATE_CHAINS: [Chain<'static>; 2] =
    [chain(Family::Ip, PRIVATE), chain(Family::Ip6, PRIVATE)];
const FORWARD: &str = "FORWARD";
const ENTRY: Xtables<'static> = Xtables::Comment("CNI firewall plugin rules");
const ADMIN: Xtables<'static> = Xtables::Comment("CNI firewall plugin admin overrides");

/// An address, and the key of the attachment that has it.
pub(crate) type Owned = (IpAddr, String);

/// What the table of one family holds.
#[derive(Debug)]
pub(crate) struct Filter<'a> {
    family: Family,
    admin: &'a str,
    /// The rules of `FORWARD`.
    entries: Vec<RuleInfo>,
    /// The rules of the plugin's chain, if there is one.
    rules: Option<Vec<RuleInfo>>,
    has_admin: bool,
}

impl<'a> Filter<'a> {
    /// Looks at the tables that have the chain `FORWARD`, with the admin's chain of this name.
    pub(crate) fn look(nft: &mut Nft, admin: &'a str) -> Result<Vec<Filter<'a>>> {
        let families = [Family::Ip, Family::Ip6];
        let names = [FORWARD, PRIVATE, admin];
        let chains: Vec<_> =
            families.iter().flat_map(|family| names.map(|name| chain(*family, name))).collect();
        let there = nft.exist(&chains)?;
        let mut filters = Vec::new();
        for (family, there) in families.into_iter().zip(there.chunks(names.len())) {
            let [true, has_private, has_admin] = *there else { continue };
            let entries = nft.rules_of(&chain(family, FORWARD))?;
            let rules = has_private.then(|| nft.rules_of(&chain(family, PRIVATE))).transpose()?;
            filters.push(Filter { family, admin, entries, rules, has_admin });
        }
        Ok(filters)
    }

    /// Whether packets of the address pass this table.
    pub(crate) fn is_for(&self, address: IpAddr) -> bool {
        (self.family == Family::Ip) == address.is_ipv4()
    }

    /// Whether the plugin's chain is not there: somebody made or emptied the table since, and no
    /// attachment has rules in it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.rules.is_none()
    }

    /// What makes the chains and the ways into them that are not there. It is right only for what
    /// was seen.
    pub(crate) fn frame(&self) -> Vec<Message> {
        let (forward, private) = (self.chain(FORWARD), self.chain(PRIVATE));
        let admin = self.chain(self.admin);
        let mut changes = Vec::new();
        if self.rules.is_none() {
            changes.push(private.create());
        }
        if !self.has_admin {
            changes.push(admin.create());
        }
        if !self.has_entry() {
            changes.push(forward.insert(&jump(ENTRY, PRIVATE), ""));
        }
        if !self.leads_to_admin() {
            changes.push(private.insert(&jump(ADMIN, self.admin), ""));
        }
        changes
    }

    /// What gives the address exactly one rule of each kind.
    pub(crate) fn give(&self, (address, owner): &Owned) -> Vec<Message> {
        let mut changes = self.take(*address, owner);
        let private = self.chain(PRIVATE);
        changes.push(private.append_owned(&to(*address), owner));
        changes.push(private.append_owned(&from(*address), owner));
        changes
    }

    /// What removes the address's rules that are the owner's or nobody's: the reference's, or some
    /// that were saved and restored.
    pub(crate) fn take(&self, address: IpAddr, owner: &str) -> Vec<Message> {
        let private = self.chain(PRIVATE);
        let may_go = |rule: &&RuleInfo| rule.owner == owner || rule.owner.is_empty();
        let own = self.rules_of(address).filter(may_go);
        own.map(|rule| private.delete_rule(rule.handle)).collect()
    }

    /// What removes the rules of all these owners.
    pub(crate) fn take_all(&self, is_meant: impl Fn(&str) -> bool) -> Vec<Message> {
        let private = self.chain(PRIVATE);
        let meant = self.rules.iter().flatten().filter(|rule| is_meant(&rule.owner));
        meant.map(|rule| private.delete_rule(rule.handle)).collect()
    }

    /// What is not as it should be for this address.
    pub(crate) fn difference(&self, address: IpAddr) -> Option<String> {
        let missing = if !self.has_entry() {
            format!("chain {FORWARD:?} does not lead to chain {PRIVATE:?}")
        } else if !self.leads_to_admin() {
            format!("chain {PRIVATE:?} does not lead to the admin's chain {:?}", self.admin)
        } else if !self.has(&to(address)) || !self.has(&from(address)) {
            format!("chain {PRIVATE:?} has not the rules that let {address} through")
        } else {
            return None;
        };
        let table = if self.family == Family::Ip { "ip filter" } else { "ip6 filter" };
        Some(format!("table {table:?}: {missing}"))
    }

    fn rules_of(&self, address: IpAddr) -> impl Iterator<Item = &RuleInfo> {
        let forms = [to(address), from(address)];
        self.rules.iter().flatten().filter(move |rule| forms.iter().any(|it| rule.is_made_of(it)))
    }

    fn has(&self, expressions: &[Expression<'_>]) -> bool {
        self.rules.iter().flatten().any(|rule| rule.is_made_of(expressions))
    }

    fn has_entry(&self) -> bool {
        self.entries.iter().any(|rule| rule.is_made_of(&jump(ENTRY, PRIVATE)))
    }

    fn leads_to_admin(&self) -> bool {
        self.has(&jump(ADMIN, self.admin))
    }

    fn chain<'b>(&self, name: &'b str) -> Chain<'b> {
        chain(self.family, name)
    }
}

const fn chain(family: Family, name: &str) -> Chain<'_> {
    Chain { table: Table { family, name: "filter" }, name }
}

fn jump(comment: Xtables<'static>, chain: &str) -> Vec<Expression<'static>> {
    let act = Expression::Act(Verdict::Jump(chain.into()));
    vec![Expression::Xtables(comment), Expression::Counter, act]
}

fn to(address: IpAddr) -> Vec<Expression<'static>> {
    let accept = Expression::Act(Verdict::Accept);
    let of_a_flow = Expression::Xtables(Xtables::OfAFlow);
    vec![is(Field::Destination, address), of_a_flow, Expression::Counter, accept]
}

fn from(address: IpAddr) -> Vec<Expression<'static>> {
    let accept = Expression::Act(Verdict::Accept);
    vec![is(Field::Source, address), Expression::Counter, accept]
}

fn is(field: Field, address: IpAddr) -> Expression<'static> {
    let network = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    Expression::Matches { field, network, prefix, negated: false }
}
