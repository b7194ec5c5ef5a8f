//! CNI_ARGS: `KEY=value;KEY=value`, the old way to hand a plugin extra arguments.

use crate::error::{CniError, Code};

/// The key that lets a runtime send arguments not every plugin knows.
const IGNORE_UNKNOWN: &str = "IgnoreUnknown";

/// CNI_ARGS that cannot be understood. The texts are the reference's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CniArgsError {
    /// A part without exactly one `=`.
    #[error("ARGS: invalid pair {0:?}: CNI_ARGS must be KEY=value;KEY=value")]
    InvalidPair(String),
    /// Keys the plugin does not know, while IgnoreUnknown is not set.
    #[error("ARGS: unknown args {0}: remove them from CNI_ARGS or add IgnoreUnknown=1")]
    Unknown(String),
    /// IgnoreUnknown is neither true nor false.
    #[error("ARGS: error parsing value of pair \"IgnoreUnknown={0}\": write 1, true, 0 or false")]
    NoBoolean(String),
}

impl From<CniArgsError> for CniError {
    fn from(error: CniArgsError) -> CniError {
        CniError::new(Code::InvalidEnvironment, error.to_string())
    }
}

/// The arguments of one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CniArgs {
    pairs: Vec<(String, String)>,
}

impl CniArgs {
    /// Reads CNI_ARGS for a plugin that knows the keys `known`; case matters.
    ///
    /// # Errors
    /// [`CniArgsError`] for a malformed pair, and for a key that is not known unless
    /// `IgnoreUnknown=1` (or `true`) is among the pairs.
    pub fn parse(args: &str, known: &[&str]) -> Result<CniArgs, CniArgsError> {
        let mut pairs = Vec::new();
        let mut unknown = Vec::new();
        let mut ignore_unknown = false;
        for pair in args.split(';').filter(|_| !args.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .filter(|(_, value)| !value.contains('='))
                .ok_or_else(|| CniArgsError::InvalidPair(pair.to_owned()))?;
            if key == IGNORE_UNKNOWN {
                ignore_unknown = boolean(value)?;
            } else if known.contains(&key) {
                pairs.push((key.to_owned(), value.to_owned()));
            } else {
                unknown.push(format!("{pair:?}"));
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            return Err(CniArgsError::Unknown(format!("[{}]", unknown.join(" "))));
        }
        Ok(CniArgs { pairs })
    }

    /// The value of a known key; the last one if it is given more than once.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn boolean(value: &str) -> Result<bool, CniArgsError> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(CniArgsError::NoBoolean(value.to_owned())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_keys_are_kept_and_the_last_wins() {
        let args = CniArgs::parse("IP=10.1.0.5;MAC=;IP=10.1.0.6", &["IP", "MAC"]).unwrap();
        assert_eq!(args.get("IP"), Some("10.1.0.6"));
        assert_eq!(args.get("MAC"), Some(""));
        assert_eq!(args.get("GATEWAY"), None);
        assert_eq!(CniArgs::parse("", &[]), Ok(CniArgs::default()));
    }

    #[test]
    fn unknown_keys_need_leave() {
        let args = "K8S_POD=foo;IP=10.1.0.5;ip=10.1.0.6";
        let error = CniArgs::parse(args, &["IP"]).unwrap_err();
        assert!(
            error.to_string().starts_with(r#"ARGS: unknown args ["K8S_POD=foo" "ip=10.1.0.6"]"#),
            "{error}"
        );
        for leave in ["IgnoreUnknown=1", "IgnoreUnknown=true", "IgnoreUnknown=TRUE"] {
            let args = CniArgs::parse(&format!("{args};{leave}"), &["IP"]).unwrap();
            assert_eq!(args.get("IP"), Some("10.1.0.5"));
            assert_eq!(args.get("K8S_POD"), None);
        }
        assert!(CniArgs::parse(&format!("IgnoreUnknown=0;{args}"), &["IP"]).is_err());
        assert_eq!(
            CniArgs::parse("IgnoreUnknown=yes", &[]),
            Err(CniArgsError::NoBoolean("yes".to_owned()))
        );
    }

    #[test]
    fn a_pair_has_exactly_one_equals_sign() {
        for (args, pair) in [("foo", "foo"), ("A=1;", ""), ("A=1=2", "A=1=2"), (";", "")] {
            assert_eq!(
                CniArgs::parse(args, &["A"]),
                Err(CniArgsError::InvalidPair(pair.to_owned()))
            );
        }
    }

    #[test]
    fn errors_name_the_value_and_the_remedy() {
        let error = CniError::from(CniArgs::parse("foo", &[]).unwrap_err());
        assert_eq!(error.code, Code::InvalidEnvironment);
        assert!(error.msg.starts_with("ARGS: invalid pair \"foo\""), "{error}");
        assert!(error.msg.contains("KEY=value"), "{error}");
        let error = CniArgs::parse("X=1", &[]).unwrap_err().to_string();
        assert!(error.contains("IgnoreUnknown=1"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics(args in any::<String>()) {
            let _ = CniArgs::parse(&args, &["IP"]);
        }

        #[test]
        fn pairs_read_back(values in prop::collection::vec("[^;=]{0,8}", 1..5)) {
            let args: Vec<String> = values.iter().map(|value| format!("IP={value}")).collect();
            let parsed = CniArgs::parse(&args.join(";"), &["IP"]).unwrap();
            prop_assert_eq!(parsed.get("IP"), values.last().map(String::as_str));
        }
    }
}
