//! Which code of the CNI spec each error of this crate has. The message is the error's text, which
//! is the reference's where it has one; the details say what to do about it.

use cni_conf::error::{CniError, Code};

use crate::allocate::AllocateError;
use crate::config::ConfigError;
use crate::store::StoreError;

impl From<ConfigError> for CniError {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::Type(_) => Code::Decode,
            ConfigError::CniArgs(_) => Code::InvalidEnvironment,
            _ => Code::InvalidConfig,
        };
        Self::new(code, error.to_string()).with_details(error.remedy())
    }
}

impl From<StoreError> for CniError {
    fn from(error: StoreError) -> Self {
        Self::new(Code::Io, error.to_string()).with_details(error.remedy())
    }
}

impl From<AllocateError> for CniError {
    fn from(error: AllocateError) -> Self {
        let code = match error {
            AllocateError::Exhausted { .. } => Code::TryAgainLater,
            AllocateError::Duplicate { .. } | AllocateError::RequestedTaken { .. } => {
                Code::Conflict
            }
            AllocateError::RequestedGateway { .. }
            | AllocateError::RequestedExcluded { .. }
            | AllocateError::Unplaced(_) => Code::InvalidConfig,
        };
        Self::new(code, error.to_string()).with_details(error.remedy())
    }
}
