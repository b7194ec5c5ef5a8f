//! How far the bench is, on the standard error: one line that changes, where that is a terminal.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

/// A line that is written more often than this cannot be read, and takes time.
const PAUSE: Duration = Duration::from_millis(100);

/// The progress of one thing.
pub(crate) struct Progress {
    title: String,
    begun: Instant,
    said: Option<Instant>,
    terminal: bool,
}

impl Progress {
    /// Begins to tell.
    pub(crate) fn begin(title: String) -> Self {
        Progress { title, begun: Instant::now(), said: None, terminal: stderr().is_terminal() }
    }

    /// Tells what is going on now.
    pub(crate) fn say(&mut self, what: &str) {
        let soon = self.said.is_some_and(|said| said.elapsed() < PAUSE);
        if self.terminal && !soon {
            self.write(&format!("\r\x1b[K{}: {what}", self.title));
            self.said = Some(Instant::now());
        }
    }

    /// Tells that it is done. Where there is no terminal, that is all that is told.
    pub(crate) fn end(self) {
        let seconds = self.begun.elapsed().as_secs();
        let line = if self.terminal {
            "\r\x1b[K".to_owned()
        } else {
            format!("{}: {seconds} s\n", self.title)
        };
        self.write(&line);
    }

    /// Nobody may be there to read it, which is no failure.
    fn write(&self, text: &str) {
        let mut out = stderr();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
