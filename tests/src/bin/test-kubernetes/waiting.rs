//! Waiting for what nobody tells: asked again until it is so, or too late, or somebody has had enough.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cbr0_tests::error::Context as _;
use cbr0_tests::{LabError, Result};
use nix::sys::signal::{SigSet, Signal};

/// Many times what anything here takes on a machine that has much else to do.
pub(crate) const LONG: Duration = Duration::from_secs(90);
/// As long as a command may take that waits by itself, and says when it has waited enough.
pub(crate) const LONGEST: Duration = Duration::from_secs(240);
/// Before asking again.
const PAUSE: Duration = Duration::from_millis(300);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From here on, Ctrl-C and its like end what waits, so that everything is removed on the way out.
pub(crate) fn catch_interrupts() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context(|| "block signals".to_owned())?;
    thread::spawn(move || {
        if signals.wait().is_ok() {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// Whether somebody has had enough.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Asks until there is an answer, or for long enough; then what was wrong last is the error.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + LONG;
    loop {
        let error = match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if interrupted() {
            return Err(LabError::Wrong("interrupted".to_owned()));
        }
        if Instant::now() > end {
            return Err(LabError::Wrong(format!("{what}: not within {LONG:?}: {error}")));
        }
        thread::sleep(PAUSE);
    }
}
