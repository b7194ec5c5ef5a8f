//! The administrator's list of the sysctls that networks may set.

use std::fs;
use std::io;
use std::path::Path;

use plugin_interface::{Error, Result};
use regex_lite::Regex;

use crate::error::FileError;

/// Where the list is. Where it is not, everything below `net` is allowed.
pub(crate) const FILE: &str = "/etc/cni/tuning/allowlist.conf";

/// Regular expressions, of which one must match a key as the configuration has it, anywhere in it.
#[derive(Debug)]
pub(crate) struct Allowlist {
    lines: Option<Vec<(String, Regex)>>,
}

impl Allowlist {
    /// Reads the list.
    pub(crate) fn read() -> Result<Allowlist> {
        let path = Path::new(FILE);
        match fs::read_to_string(path) {
            Ok(text) => Ok(Allowlist::parse(&text)?),
            Err(error) if is_absent(&error) => Ok(Allowlist { lines: None }),
            Err(source) => Err(FileError::Allowlist { path: path.into(), source }.into()),
        }
    }

    fn parse(text: &str) -> std::result::Result<Allowlist, FileError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let expressions = lines.map(|line| match Regex::new(line) {
            Ok(expression) => Ok((line.to_owned(), expression)),
            Err(error) => {
                let (line, why) = (line.to_owned(), error.to_string());
                Err(FileError::Line { path: FILE.into(), line, why })
            }
        });
        Ok(Allowlist { lines: Some(expressions.collect::<std::result::Result<_, _>>()?) })
    }

    /// Refuses a key that no line matches.
    pub(crate) fn check(&self, key: &str) -> Result<()> {
        let Some(lines) = &self.lines else { return Ok(()) };
        if lines.iter().any(|(_, expression)| expression.is_match(key)) {
            return Ok(());
        }
        let allowed: Vec<_> = lines.iter().map(|(line, _)| line.as_str()).collect();
        Err(Error::Config {
            key: "sysctl",
            value: format!("{key:?}"),
            reason: format!(
                "is not allowed. Only the following sysctls are allowed: [{}]; they are in {FILE:?}",
                allowed.join(" ")
            ),
        })
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_allowed_that_a_line_matches_anywhere() {
        let text = "\n  ^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$ \r\n\nsomaxconn\n";
        let list = Allowlist::parse(text).unwrap();
        list.check("net.ipv4.conf.IFNAME.arp_filter").unwrap();
        list.check("net.core.somaxconn").unwrap();
        for key in ["net.ipv4.conf.all.arp_filter", "net/ipv4/conf/IFNAME/arp_filter"] {
            let error = list.check(key).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("somaxconn"), "{error}");
        }
    }

    #[test]
    fn an_empty_list_allows_nothing_and_none_everything() {
        assert!(Allowlist::parse("\n").unwrap().check("net.core.somaxconn").is_err());
        assert!(Allowlist { lines: None }.check("net.core.somaxconn").is_ok());
    }

    #[test]
    fn a_line_that_is_no_expression_is_named() {
        let error = Allowlist::parse("fine\nnet.(").unwrap_err().to_string();
        assert!(error.contains("\"net.(\"") && error.contains(FILE), "{error}");
    }
}
