//! The table on the terminal: what is warm, claimed and serving, redrawn when it changes.
//!
//! It stays below the log: the writer of the log erases it, writes, and draws it again.

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use poolctl_runtime::Shutdown;
use tracing_subscriber::fmt::MakeWriter;

use crate::admin::View;
use crate::admin::messages::Status;
use crate::show::{models_table, pools_table};

/// Changes come in bursts; people read slower.
const LEAST_INTERVAL: Duration = Duration::from_millis(200);

/// Requests in flight change without any replica changing.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// Cursor to the beginning of the line, then so many lines up.
fn up(lines: usize) -> String {
    if lines == 0 { "\r".to_owned() } else { format!("\r\x1b[{lines}A") }
}

/// Clears from the cursor to the end of the screen.
const CLEAR_BELOW: &str = "\x1b[J";

/// A line that is longer than the terminal is wide must stay one line, or the way back up is not known.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Models that are drawn: the table must be lower than the terminal, for the same reason. `poolctl status` has all.
const MAX_MODELS: usize = 12;

/// What stands on the terminal. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Console {
    drawn: Arc<Mutex<String>>,
}

impl Console {
    /// Draws the stack until shutdown, then takes the table away.
    pub(super) async fn show(self, view: View, shutdown: Shutdown) {
        let mut changes = view.changes();
        let stop = shutdown.requested();
        tokio::pin!(stop);
        loop {
            self.redraw(&frame(view.status()));
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(LEAST_INTERVAL) => {}
            }
            tokio::select! {
                () = &mut stop => break,
                _ = changes.changed() => {}
                () = tokio::time::sleep(LONGEST_INTERVAL) => {}
            }
        }
        self.redraw("");
    }

    /// A terminal that is gone is no reason to stop serving, so errors are left alone.
    fn redraw(&self, frame: &str) {
        let mut drawn = self.drawn.lock();
        if *drawn != frame {
            let _ = io::stderr().write_all(replace(&drawn, "", frame).as_bytes());
            frame.clone_into(&mut drawn);
        }
    }
}

/// What turns a terminal that shows `drawn` into one that shows `log` and below it `frame`.
fn replace(drawn: &str, log: &str, frame: &str) -> String {
    format!("{}{CLEAR_BELOW}{log}{NO_WRAP}{frame}{WRAP}", up(drawn.lines().count()))
}

/// The models that have replicas come first.
fn frame(mut status: Status) -> String {
    status.models.sort_by_key(|model| model.variants.iter().all(|variant| variant.replicas.is_empty()));
    let hidden = status.models.len().saturating_sub(MAX_MODELS);
    status.models.truncate(MAX_MODELS);
    let more =
        if hidden > 0 { format!("and {hidden} models more: poolctl status shows them\n") } else { String::new() };
    format!("\n{}{more}\n{}", models_table(&status.models), pools_table(&status.pools))
}

/// Writes one event of the log.
pub(super) struct LogWriter {
    console: Console,
}

impl Write for LogWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let drawn = self.console.drawn.lock();
        let text = replace(&drawn, &String::from_utf8_lossy(event), &drawn);
        io::stderr().write_all(text.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'writer> MakeWriter<'writer> for Console {
    type Writer = LogWriter;

    fn make_writer(&'writer self) -> LogWriter {
        LogWriter { console: self.clone() }
    }
}
