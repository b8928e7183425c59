//! Telling people what happens: a line each on a log, a moving line on a terminal.

use std::io::IsTerminal as _;
#[cfg(test)]
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;

/// A step that takes longer says again what it is at, where there is no terminal to redraw a line on.
const REMIND_AFTER: Duration = Duration::from_secs(10);

/// How often the time of a running step is redrawn on a terminal.
const REDRAW: Duration = Duration::from_millis(100);

/// Where it is told. Clones tell the same place.
#[derive(Clone, Debug)]
pub struct Progress {
    sink: Sink,
}

#[derive(Clone, Debug)]
enum Sink {
    Terminal(MultiProgress),
    Lines,
    Silent,
    #[cfg(test)]
    Kept(Arc<Mutex<Vec<String>>>),
}

/// Something that takes time. It ends with [`Self::done`], or silently when it is dropped: the error that made the caller drop it
/// tells more.
#[derive(Debug)]
pub struct Step {
    sink: Sink,
    what: String,
    begin: Instant,
    line: Option<ProgressBar>,
    reminded: Mutex<Instant>,
}

// === impl Progress ===

impl Progress {
    /// On standard error: redrawn lines on a terminal, else one line per step and every ten seconds of it.
    pub fn stderr() -> Self {
        let sink = if std::io::stderr().is_terminal() { Sink::Terminal(MultiProgress::new()) } else { Sink::Lines };
        Self { sink }
    }

    /// Nowhere.
    pub fn silent() -> Self {
        Self { sink: Sink::Silent }
    }

    /// A fact.
    pub fn say(&self, fact: &str) {
        self.sink.line(fact);
    }

    /// Begins something that takes time.
    #[must_use]
    pub fn step(&self, what: &str) -> Step {
        let line = match &self.sink {
            Sink::Terminal(lines) => {
                let line = lines.add(ProgressBar::new_spinner());
                let style = ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg}");
                line.set_style(style.expect("the template is valid"));
                line.set_prefix(what.to_owned());
                line.enable_steady_tick(REDRAW);
                Some(line)
            }
            other => {
                other.line(&format!("{what} …"));
                None
            }
        };
        let begin = Instant::now();
        Step { sink: self.sink.clone(), what: what.to_owned(), begin, line, reminded: Mutex::new(begin) }
    }

    #[cfg(test)]
    pub(super) fn kept() -> (Self, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::default();
        (Self { sink: Sink::Kept(Arc::clone(&lines)) }, lines)
    }
}

// === impl Step ===

impl Step {
    /// What it is at, or why it is not done yet.
    pub fn note(&self, detail: &str) {
        let detail = detail.lines().next().unwrap_or_default();
        if let Some(line) = &self.line {
            return line.set_message(detail.to_owned());
        }
        let mut reminded = self.reminded.lock();
        if reminded.elapsed() >= REMIND_AFTER {
            *reminded = Instant::now();
            self.sink.line(&format!("{} … for {:.0?}: {detail}", self.what, self.begin.elapsed()));
        }
    }

    /// Ends it with its result.
    pub fn done(self, result: &str) {
        self.sink.line(&format!("{}: {result}", self.what));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
    }
}

// === impl Sink ===

impl Sink {
    fn line(&self, text: &str) {
        match self {
            // println of the lines draws above them; it fails only where standard error is closed, when nobody reads.
            Self::Terminal(lines) => drop(lines.println(text)),
            Self::Lines => eprintln!("{text}"),
            Self::Silent => {}
            #[cfg(test)]
            Self::Kept(kept) => kept.lock().push(text.to_owned()),
        }
    }
}
