//! A deadline for what is measured: a call that hangs must end the bench with its name, and not stop
//! it for ever.

use std::process;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::say;

/// Longer than any call takes, or many at once, on a busy machine too.
pub(crate) const CALL: Duration = Duration::from_secs(60);
/// Longer than a turn, which is of several calls.
pub(crate) const TURN: Duration = Duration::from_secs(120);
/// Longer than a turn that is taken once.
pub(crate) const LONG_TURN: Duration = Duration::from_secs(300);
/// Longer than the scenes of a case take to build, with a thousand Pods on each.
pub(crate) const PREPARATION: Duration = Duration::from_secs(300);

/// Watches over something as long as this value lives.
pub(crate) struct Watch {
    /// Its end is the end of the watch.
    _over: Sender<()>,
}

impl Watch {
    /// Ends the worker if this is not done in time. The supervisor then ends and removes the rest.
    pub(crate) fn over(what: String, limit: Duration) -> Watch {
        Watch::with(limit, move || {
            say(&format!("bench: {what} did not end within {limit:?}"));
            process::exit(1)
        })
    }

    fn with(limit: Duration, end: impl FnOnce() + Send + 'static) -> Watch {
        let (over, waits) = mpsc::channel();
        thread::spawn(move || {
            if waits.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                end();
            }
        });
        Watch { _over: over }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Longer than any test may take.
    const NEVER: Duration = Duration::from_secs(3600);

    #[test]
    fn what_is_over_in_time_ends_nothing() {
        let (ended, tells) = mpsc::channel::<()>();
        drop(Watch::with(NEVER, move || ended.send(()).unwrap()));
        // The thread gives its end of the channel up without a word.
        assert!(tells.recv().is_err());
    }

    #[test]
    fn what_is_not_over_is_ended() {
        let (ended, tells) = mpsc::channel();
        let _watch = Watch::with(Duration::ZERO, move || ended.send(()).unwrap());
        tells.recv_timeout(NEVER).unwrap();
    }
}
