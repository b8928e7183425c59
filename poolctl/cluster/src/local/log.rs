//! What a replica logs, said again in this process's own log.

use std::fmt::Write as _;

use serde_json::{Map, Value};
use tracing::Level;

/// One line of a replica's stderr.
#[derive(Debug, PartialEq)]
pub(super) struct LogLine {
    level: Level,
    /// The message, with the fields that it has.
    pub(super) text: String,
}

impl LogLine {
    /// Reads a line: a wrapper that does not write to a terminal logs one JSON object a line. Anything else (a panic, the
    /// words of a library) is taken as it is.
    pub(super) fn read(line: String) -> Self {
        match serde_json::from_str::<Map<String, Value>>(&line) {
            Ok(fields) if fields.contains_key("message") => Self::of_fields(&fields),
            _ => Self { level: Level::INFO, text: line },
        }
    }

    fn of_fields(fields: &Map<String, Value>) -> Self {
        let text_of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let level = fields.get("level").and_then(Value::as_str).and_then(|level| level.parse().ok());
        let mut text = fields.get("message").map(text_of).unwrap_or_default();
        for (name, value) in fields {
            // Said already, or said again by our own log.
            if !matches!(name.as_str(), "message" | "level" | "timestamp" | "target") {
                let _ = write!(text, " {name}={}", text_of(value));
            }
        }
        Self { level: level.unwrap_or(Level::INFO), text }
    }

    /// Logs it as the words of `replica`.
    pub(super) fn repeat(&self, replica: &str) {
        let text = &self.text;
        match self.level {
            Level::ERROR => tracing::error!(target: "wrapper", replica, "{text}"),
            Level::WARN => tracing::warn!(target: "wrapper", replica, "{text}"),
            Level::INFO => tracing::info!(target: "wrapper", replica, "{text}"),
            Level::DEBUG => tracing::debug!(target: "wrapper", replica, "{text}"),
            Level::TRACE => tracing::trace!(target: "wrapper", replica, "{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrappers_own_log_keeps_its_level_and_fields() {
        let line = r#"{"timestamp":"2026-01-01T00:00:00Z","level":"WARN","message":"slow","model":"digits","ms":12,"target":"w"}"#;
        let read = LogLine::read(line.to_owned());
        assert_eq!(read, LogLine { level: Level::WARN, text: "slow model=digits ms=12".to_owned() });
    }

    #[test]
    fn other_words_are_taken_as_they_are() {
        for line in ["thread 'main' panicked", "{}", "[1]", "{\"level\":\"INFO\"}", ""] {
            assert_eq!(LogLine::read(line.to_owned()), LogLine { level: Level::INFO, text: line.to_owned() });
        }
    }
}
