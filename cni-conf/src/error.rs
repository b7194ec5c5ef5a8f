//! The error a plugin answers with (CNI spec, section "Error").

use std::fmt;

use crate::json::Object;
use crate::version::SpecVersion;

/// What went wrong, as a number the runtime can act on.
///
/// 1–99 belong to the spec, 100 and above to the plugin. Number 8 is the Go reference's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// 1: the plugin does not speak the configuration's version, or the version lacks the verb.
    IncompatibleVersion,
    /// 2: a field of the configuration is not supported; the message names key and value.
    UnsupportedField,
    /// 3: the container is unknown; the runtime need not clean up.
    UnknownContainer,
    /// 4: an environment variable is missing or wrong; the message names it.
    InvalidEnvironment,
    /// 5: reading or writing failed.
    Io,
    /// 6: the configuration cannot be decoded.
    Decode,
    /// 7: the configuration is wrong.
    InvalidConfig,
    /// 8: CNI_NETNS names no usable network namespace.
    InvalidNetns,
    /// 11: something is not ready yet; the runtime should try again later.
    TryAgainLater,
    /// 50 (STATUS): an ADD would fail.
    NotAvailable,
    /// 51 (STATUS): an ADD would fail, and running containers may have lost connectivity.
    LimitedConnectivity,
    /// 100: a request to the kernel failed.
    Kernel,
    /// 101: a name or an address is taken by somebody else.
    Conflict,
    /// 102: CHECK found something missing or different.
    CheckFailed,
    /// 103: a delegated plugin failed without a readable error.
    Delegate,
    /// Any other number, as a delegated plugin reported it.
    Other(u32),
}

impl Code {
    /// The number as it stands in the error's JSON.
    pub fn number(self) -> u32 {
        match self {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::UnknownContainer => 3,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::InvalidConfig => 7,
            Code::InvalidNetns => 8,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::LimitedConnectivity => 51,
            Code::Kernel => 100,
            Code::Conflict => 101,
            Code::CheckFailed => 102,
            Code::Delegate => 103,
            Code::Other(number) => number,
        }
    }

    /// The code with this number.
    pub fn from_number(number: u32) -> Code {
        match number {
            1 => Code::IncompatibleVersion,
            2 => Code::UnsupportedField,
            3 => Code::UnknownContainer,
            4 => Code::InvalidEnvironment,
            5 => Code::Io,
            6 => Code::Decode,
            7 => Code::InvalidConfig,
            8 => Code::InvalidNetns,
            11 => Code::TryAgainLater,
            50 => Code::NotAvailable,
            51 => Code::LimitedConnectivity,
            100 => Code::Kernel,
            101 => Code::Conflict,
            102 => Code::CheckFailed,
            103 => Code::Delegate,
            number => Code::Other(number),
        }
    }
}

/// A failed call, as the runtime is told of it.
///
/// `msg` says in one line what is wrong, with the value and the remedy; `details` holds what helps
/// to find the cause and may be empty. Some texts are matched by tools and are part of the
/// interface; they stand in `msg`, word for word as the reference has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// What kind of failure it is.
    pub code: Code,
    /// One line for people.
    pub msg: String,
    /// More for people, or empty.
    pub details: String,
}

impl CniError {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> CniError {
        CniError { code, msg: msg.into(), details: String::new() }
    }

    /// The error that reads `text`: what happened and, behind the first `"; "`, what to do about it.
    pub fn explained(code: Code, text: &str) -> CniError {
        let (msg, details) = text.split_once("; ").unwrap_or((text, ""));
        CniError::new(code, msg).with_details(details)
    }

    /// The same error with these details in place of its own.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> CniError {
        self.details = details.into();
        self
    }

    /// The error as it goes to stdout, in the format of every version so far: indented by four,
    /// no newline at the end, all four keys always there.
    pub fn to_json(&self, version: SpecVersion) -> String {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        format!(
            "{{\n    \"cniVersion\": {},\n    \"code\": {},\n    \"msg\": {},\n    \"details\": {}\n}}",
            quoted(version.as_str()),
            self.code.number(),
            quoted(&self.msg),
            quoted(&self.details),
        )
    }

    /// Reads what a failed plugin wrote to its stdout; `None` if that is no error of this format.
    ///
    /// `code` and `msg` must be there and say something: a JSON object without them (a result, for
    /// instance) would make an error nobody can act on.
    pub fn parse(stdout: &[u8]) -> Option<CniError> {
        let object: Object = serde_json::from_slice(stdout).ok()?;
        let number: u32 = object.get("code").ok()??;
        let msg: String = object.get("msg").ok()??;
        let details: String = object.get("details").ok()?.unwrap_or_default();
        if number == 0 || msg.is_empty() {
            return None;
        }
        Some(CniError { code: Code::from_number(number), msg, details })
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for CniError {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_numbers_are_the_same_thing() {
        for number in 0..=200 {
            assert_eq!(Code::from_number(number).number(), number);
        }
        assert_eq!(Code::from_number(11), Code::TryAgainLater);
        assert_eq!(Code::from_number(999), Code::Other(999));
    }

    #[test]
    fn json_has_all_four_keys_and_the_layout_of_the_reference() {
        let error = CniError::new(Code::InvalidConfig, "say \"please\"\n");
        assert_eq!(
            error.to_json(SpecVersion::V0_4_0),
            "{\n    \"cniVersion\": \"0.4.0\",\n    \"code\": 7,\n    \
             \"msg\": \"say \\\"please\\\"\\n\",\n    \"details\": \"\"\n}"
        );
    }

    #[test]
    fn an_error_reads_back_as_itself() {
        let error = CniError::new(Code::Other(999), "no IP addresses available in range set: a-b")
            .with_details("über \u{7} alles");
        assert_eq!(CniError::parse(error.to_json(SpecVersion::LATEST).as_bytes()), Some(error));
    }

    #[test]
    fn an_error_of_the_go_reference_is_read() {
        let error = CniError::parse(br#"{"code": 11, "msg": "busy"}"#).unwrap();
        assert_eq!(error, CniError::new(Code::TryAgainLater, "busy"));
    }

    #[test]
    fn what_is_no_error_is_not_taken_for_one() {
        let no_errors: [&[u8]; 8] = [
            b"",
            b"segmentation fault",
            b"[]",
            b"{}",
            br#"{"cniVersion": "1.0.0", "ips": []}"#,
            br#"{"code": 0, "msg": "fine"}"#,
            br#"{"code": 7, "msg": ""}"#,
            br#"{"code": "7", "msg": "x"}"#,
        ];
        for stdout in no_errors {
            assert_eq!(CniError::parse(stdout), None, "{}", String::from_utf8_lossy(stdout));
        }
    }

    #[test]
    fn display_joins_message_and_details() {
        let error = CniError::new(Code::Io, "cannot read stdin");
        assert_eq!(error.to_string(), "cannot read stdin");
        assert_eq!(error.with_details("EIO").to_string(), "cannot read stdin; EIO");
    }
}
