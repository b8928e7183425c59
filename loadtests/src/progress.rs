//! Progress for who waits: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a line is written where there is no terminal: a log should not be flooded.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The bar.
const TEMPLATE: &str = "{msg:32} [{bar:40}] {pos}/{len} {elapsed} (left {eta})";

/// Progress of one step, on standard error.
#[derive(Debug)]
pub struct Progress {
    form: Form,
    what: String,
    total: u64,
    done: u64,
}

#[derive(Debug)]
enum Form {
    Bar(ProgressBar),
    Lines { next: Instant },
}

impl Progress {
    /// A step of `total` parts.
    #[must_use]
    pub fn start(what: &str, total: u64) -> Self {
        let form = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template(TEMPLATE)
                .expect("the template is constant and tested")
                .progress_chars("=> ");
            let bar = ProgressBar::new(total).with_style(style).with_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            Form::Bar(bar)
        } else {
            eprintln!("{what}");
            Form::Lines { next: Instant::now() + LINE_EVERY }
        };
        Self { form, what: what.to_owned(), total, done: 0 }
    }

    /// One part is done.
    pub fn step(&mut self) {
        self.at(self.done + 1);
    }

    /// So many parts are done.
    pub fn at(&mut self, done: u64) {
        self.done = done;
        match &mut self.form {
            Form::Bar(bar) => bar.set_position(done),
            Form::Lines { next } if Instant::now() >= *next => {
                eprintln!("{}: {done}/{}", self.what, self.total);
                *next = Instant::now() + LINE_EVERY;
            }
            Form::Lines { .. } => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_can_be_made_and_driven() {
        let mut progress = Progress::start("a step", 2);
        progress.step();
        progress.at(2);
        assert_eq!(progress.done, 2);
    }

    #[test]
    fn the_bar_template_is_valid() {
        ProgressStyle::with_template(TEMPLATE).unwrap();
    }
}
