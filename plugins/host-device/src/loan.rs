//! The alias of a link that is lent: the borrower, the link's own name and its own alias, with `/`
//! between them, which none of the names can hold.

use cni_conf::attachment::{Attachment, alias_names_network};
use cni_conf::names::check_ifname;
use kernel::link::Link;

/// The longest interface alias the kernel keeps (IFALIASZ - 1), in bytes.
const ALIAS_MAX: usize = 255;

/// A link's place at home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loan {
    /// Who has it: [`Attachment::alias`] or [`Attachment::owner_key`].
    pub(crate) borrower: String,
    /// Its name on the host.
    pub(crate) name: String,
    /// Its alias on the host.
    pub(crate) alias: String,
}

impl Loan {
    /// The alias for a link that is lent to this attachment. A link's own alias that is too long to
    /// be kept with the rest is given up.
    pub(crate) fn alias_for(attachment: &Attachment, link: &Link) -> String {
        let short = |borrower: &str| format!("{borrower}/{}", link.name);
        let clear = short(&attachment.alias());
        let kept = if clear.len() <= ALIAS_MAX { clear } else { short(&attachment.owner_key()) };
        let whole = format!("{kept}/{}", link.alias);
        if link.alias.is_empty() || whole.len() > ALIAS_MAX { kept } else { whole }
    }

    /// What a link's alias tells, if it is lent.
    pub(crate) fn of(link: &Link) -> Option<Loan> {
        Self::clear(&link.alias).or_else(|| Self::by_key(&link.alias))
    }

    /// Whether this attachment has it.
    pub(crate) fn is_to(&self, attachment: &Attachment) -> bool {
        self.borrower == attachment.alias() || self.borrower == attachment.owner_key()
    }

    /// Whether an attachment of this network has it.
    pub(crate) fn is_of_network(&self, network: &str) -> bool {
        alias_names_network(&self.borrower, network)
    }

    /// Whether the reference plugin lent a link: the alias is its name on the host.
    pub(crate) fn is_of_reference(link: &Link) -> bool {
        check_ifname(&link.alias).is_ok()
    }

    fn clear(alias: &str) -> Option<Loan> {
        let mut parts = alias.splitn(5, '/');
        let attachment = Attachment::new(parts.next()?, parts.next()?, parts.next()?).ok()?;
        Self::new(attachment.alias(), parts.next()?, parts.next())
    }

    fn by_key(alias: &str) -> Option<Loan> {
        let mut parts = alias.splitn(3, '/');
        let key = parts.next()?;
        let is_key = key.len() == 41 && key.as_bytes().get(16) == Some(&b'-');
        if is_key { Self::new(key.to_owned(), parts.next()?, parts.next()) } else { None }
    }

    fn new(borrower: String, name: &str, alias: Option<&str>) -> Option<Loan> {
        check_ifname(name).ok()?;
        let alias = alias.unwrap_or_default().to_owned();
        Some(Loan { borrower, name: name.to_owned(), alias })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lent(attachment: &Attachment, alias: &str) -> Loan {
        let at_home = Link { name: "dev0".into(), alias: alias.into(), ..Link::default() };
        let alias = Loan::alias_for(attachment, &at_home);
        assert!(alias.len() <= ALIAS_MAX, "{alias}");
        let loan = Loan::of(&Link { alias, ..Link::default() }).unwrap();
        assert_eq!(loan.name, "dev0");
        assert!(loan.is_to(attachment));
        loan
    }

    #[test]
    fn a_loan_is_read_as_it_was_written() {
        let attachment = Attachment::new("net", "c1", "eth0").unwrap();
        assert_eq!(lent(&attachment, "").alias, "");
        assert_eq!(lent(&attachment, "uplink / of rack 7").alias, "uplink / of rack 7");
        assert_eq!(lent(&attachment, &"x".repeat(250)).alias, "", "too long to be kept");

        let long = Attachment::new("net", &"c".repeat(245), "eth0").unwrap();
        assert_eq!(lent(&long, "").borrower, long.owner_key());
        assert!(lent(&long, "own").is_of_network("net"));
        assert!(!lent(&long, "own").is_of_network("other"));
        assert!(!lent(&long, "own").is_to(&attachment));
    }

    #[test]
    fn other_aliases_are_no_loans() {
        for alias in
            ["", "dev0", "net/c1/eth0", "net/c1/eth0/", "a/b/c/name-that-is-too-long", "//"]
        {
            assert_eq!(Loan::of(&Link { alias: alias.into(), ..Link::default() }), None, "{alias}");
        }
    }
}
