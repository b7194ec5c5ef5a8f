//! The versions of the CNI spec that results and configurations are written in.

use std::fmt;
use std::str::FromStr;

/// A released version of the CNI spec, in order of release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecVersion {
    /// 0.1.0: results have `ip4` and `ip6`. A configuration that names no version means this one.
    V0_1_0,
    /// 0.2.0: adds the verb VERSION.
    V0_2_0,
    /// 0.3.0: results list interfaces, addresses and routes; chained plugins.
    V0_3_0,
    /// 0.3.1: as 0.3.0, with the spelling of one key corrected.
    V0_3_1,
    /// 0.4.0: adds CHECK, and `prevResult` on DEL.
    V0_4_0,
    /// 1.0.0: `ips[].version` is gone.
    V1_0_0,
    /// 1.1.0: adds GC and STATUS, and more fields for interfaces and routes.
    V1_1_0,
}

impl SpecVersion {
    /// All of them, oldest first.
    pub const ALL: [SpecVersion; 7] = [
        SpecVersion::V0_1_0,
        SpecVersion::V0_2_0,
        SpecVersion::V0_3_0,
        SpecVersion::V0_3_1,
        SpecVersion::V0_4_0,
        SpecVersion::V1_0_0,
        SpecVersion::V1_1_0,
    ];

    /// The newest version this crate speaks.
    pub const LATEST: SpecVersion = SpecVersion::V1_1_0;

    /// The version as it stands in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            SpecVersion::V0_1_0 => "0.1.0",
            SpecVersion::V0_2_0 => "0.2.0",
            SpecVersion::V0_3_0 => "0.3.0",
            SpecVersion::V0_3_1 => "0.3.1",
            SpecVersion::V0_4_0 => "0.4.0",
            SpecVersion::V1_0_0 => "1.0.0",
            SpecVersion::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a `cniVersion` cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not a version at all: the spec calls this a failure to decode (code 6).
    #[error("cniVersion {0:?} is not a version: write it as three numbers, such as \"1.1.0\"")]
    Malformed(String),
    /// A version nobody has released, or one released after this crate (code 1).
    #[error("cniVersion {0:?} is not known: use one of 0.1.0 to {latest}", latest = SpecVersion::LATEST)]
    Unknown(String),
}

impl FromStr for SpecVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<SpecVersion, VersionError> {
        match SpecVersion::ALL.into_iter().find(|version| version.as_str() == text) {
            Some(version) => Ok(version),
            None if is_well_formed(text) => Err(VersionError::Unknown(text.to_owned())),
            None => Err(VersionError::Malformed(text.to_owned())),
        }
    }
}

/// One to three decimal numbers with dots between, as Go's version parser takes them.
fn is_well_formed(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    parts.len() <= 3
        && parts
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_reads_back_as_itself() {
        for version in SpecVersion::ALL {
            assert_eq!(version.as_str().parse(), Ok(version));
        }
    }

    #[test]
    fn the_order_is_the_order_of_release() {
        assert!(SpecVersion::ALL.is_sorted());
        assert_eq!(SpecVersion::ALL.last(), Some(&SpecVersion::LATEST));
        assert!(SpecVersion::V0_4_0 < SpecVersion::V1_0_0);
    }

    #[test]
    fn unknown_and_malformed_are_told_apart() {
        for text in ["9.0.0", "1.2.0", "1.0", "1", "0.3.2", "01.1.0"] {
            assert_eq!(text.parse::<SpecVersion>(), Err(VersionError::Unknown(text.to_owned())));
        }
        for text in ["", "one", "1.0.0.0", "1..0", "v1.0.0", "1.0.0-rc1", " 1.0.0", "1.0.0\n"] {
            assert_eq!(text.parse::<SpecVersion>(), Err(VersionError::Malformed(text.to_owned())));
        }
    }

    #[test]
    fn errors_name_the_value_and_the_remedy() {
        let unknown = VersionError::Unknown("9.0.0".to_owned()).to_string();
        assert!(unknown.contains("\"9.0.0\"") && unknown.contains("0.1.0 to 1.1.0"), "{unknown}");
        let malformed = VersionError::Malformed("one".to_owned()).to_string();
        assert!(malformed.contains("\"one\"") && malformed.contains("\"1.1.0\""), "{malformed}");
    }
}
