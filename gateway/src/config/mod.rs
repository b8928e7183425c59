//! The configuration file of a gateway that runs alone.
//!
//! It is read strictly: an unknown key, a value out of range or a name given twice refuses the whole file, with the key and
//! the value in the message. A running gateway then keeps what it has.

mod watch;

pub use watch::watch;

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use gateway_policy::deadline::DEFAULT_TIMEOUT;
use gateway_policy::{Device, parse_duration};
use serde::Deserialize;
use serde_saphyr::{MessageFormatter, UserMessageFormatter};

use crate::model_route::{ModelRoute, StaticReplica};
use crate::settings::Limits;

/// Namespace of models that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// A file's content, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What the file says, word for word: another text is a change.
    text: String,
    /// Where to listen, unless the command line says otherwise.
    pub listen: Option<SocketAddr>,
    /// The models.
    pub models: Vec<ModelRoute>,
    /// The limits.
    pub limits: Limits,
}

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is not YAML of this shape.
    #[error("{0}")]
    Syntax(String),
    /// A value is not one of those expected.
    #[error("{key} is {value:?}: expected {expected}")]
    Value {
        /// Path of the key in the file.
        key: String,
        /// The value.
        value: String,
        /// What it should be.
        expected: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    listen: Option<String>,
    models: Vec<FileModel>,
    #[serde(default)]
    limits: FileLimits,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileModel {
    name: String,
    namespace: Option<String>,
    timeout: Option<String>,
    objective: Option<String>,
    replicas: Vec<FileReplica>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileReplica {
    url: String,
    device: Option<String>,
    cost: Option<f64>,
    #[serde(default)]
    concurrency: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileLimits {
    max_body_bytes: Option<u64>,
    hold_requests: Option<usize>,
    hold_bytes: Option<u64>,
    reading_bytes: Option<u64>,
    caller_concurrency: Option<u32>,
    max_connections: Option<usize>,
    header_timeout: Option<String>,
    idle_timeout: Option<String>,
    body_idle_timeout: Option<String>,
    body_bytes_per_second: Option<u64>,
    body_grace: Option<String>,
    answer_stall_timeout: Option<String>,
    drain_timeout: Option<String>,
    held_drain_timeout: Option<String>,
}

impl Config {
    /// Reads a file. It may resolve host names, so not on a thread that serves.
    ///
    /// # Errors
    /// The file cannot be read, or is refused.
    pub fn read(path: &std::path::Path) -> Result<Self, ConfigError> {
        Self::parse(&std::fs::read_to_string(path)?)
    }

    /// What is allowed and probably not meant, for the log.
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        if self.models.is_empty() {
            return vec!["`models` is empty: every prediction is answered 404".to_owned()];
        }
        let idle = self.models.iter().filter(|model| model.replicas.is_empty());
        idle.map(|model| {
            let (namespace, name) = (&model.namespace, &model.name);
            format!("model {namespace}/{name} has no replicas: every prediction by it is answered 503")
        })
        .collect()
    }

    /// Parses a file's content.
    ///
    /// # Errors
    /// It is refused.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        // an editor that truncates before it writes must not take every model away
        let says_nothing = |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with('#');
        if text.lines().all(says_nothing) {
            return Err(ConfigError::Syntax("the file is empty: expected at least `models: [...]`".to_owned()));
        }
        let options = serde_saphyr::options! { with_snippet: false };
        let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax(&error, text))?;
        let listen = file.listen.map(|listen| parsed(&listen, "listen", "IP:PORT")).transpose()?;
        let models = file.models.into_iter().enumerate();
        let models = models.map(|(index, model)| model.check(&format!("models[{index}]")));
        let models = models.collect::<Result<Vec<_>, _>>()?;
        for (index, model) in models.iter().enumerate() {
            let twice = models[..index].iter().any(|one| one.name == model.name && one.namespace == model.namespace);
            if twice {
                return Err(value(&format!("models[{index}].name"), &model.name, "a name that no model before it has"));
            }
        }
        Ok(Self { text: text.to_owned(), listen, models, limits: file.limits.check()? })
    }
}

impl FileModel {
    fn check(self, key: &str) -> Result<ModelRoute, ConfigError> {
        let namespace = self.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        for (field, name) in [("name", &self.name), ("namespace", &namespace)] {
            check_name(name).map_err(|expected| value(&format!("{key}.{field}"), name, expected))?;
        }
        let timeout = self.timeout.map(|text| duration(&text, &format!("{key}.timeout"))).transpose()?;
        let objective = self.objective.map(|text| duration(&text, &format!("{key}.objective"))).transpose()?;
        let replicas = self.replicas.into_iter().enumerate();
        let replicas = replicas.map(|(index, replica)| replica.check(&format!("{key}.replicas[{index}]")));
        let replicas = replicas.collect::<Result<Vec<_>, _>>()?;
        for (index, replica) in replicas.iter().enumerate() {
            if replicas[..index].iter().any(|one| one.url == replica.url) {
                let key = format!("{key}.replicas[{index}].url");
                return Err(value(&key, &replica.url, "a replica that is not listed before"));
            }
        }
        Ok(ModelRoute {
            namespace,
            name: self.name,
            generation: 0,
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            objective,
            variants: Vec::new(),
            metadata: None,
            unavailable: None,
            replicas,
        })
    }
}

impl FileReplica {
    fn check(self, key: &str) -> Result<StaticReplica, ConfigError> {
        let device = self.device.as_deref().unwrap_or("cpu");
        let device: Device = parsed(device, &format!("{key}.device"), "cpu or gpu")?;
        let cost = self.cost.unwrap_or(device.default_cost());
        if !cost.is_finite() || cost < 0.0 {
            return Err(value(&format!("{key}.cost"), &cost.to_string(), "a number of 0 or more"));
        }
        let expected = "http://HOST:PORT";
        let url_key = format!("{key}.url");
        let authority = self.url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let authority = authority.ok_or_else(|| value(&url_key, &self.url, expected))?;
        let resolved = authority.to_socket_addrs();
        let mut addrs = resolved.map_err(|error| value(&url_key, &self.url, &format!("{expected} ({error})")))?;
        let addr = addrs.next().ok_or_else(|| value(&url_key, &self.url, "a host that has an address"))?;
        let url = format!("http://{authority}");
        Ok(StaticReplica { url, addr, device, cost, concurrency: self.concurrency })
    }
}

impl FileLimits {
    fn check(self) -> Result<Limits, ConfigError> {
        let default = Limits::default();
        let time = |text: Option<String>, key: &str, default: Duration| {
            text.map_or(Ok(default), |text| duration(&text, &format!("limits.{key}")))
        };
        let positive = |number: u64, key: &str| {
            if number == 0 { Err(value(&format!("limits.{key}"), "0", "a number above 0")) } else { Ok(()) }
        };
        let limits = Limits {
            max_body_bytes: self.max_body_bytes.unwrap_or(default.max_body_bytes),
            hold_requests: self.hold_requests.unwrap_or(default.hold_requests),
            hold_bytes: self.hold_bytes.unwrap_or(default.hold_bytes),
            reading_bytes: self.reading_bytes.unwrap_or(default.reading_bytes),
            caller_concurrency: self.caller_concurrency,
            max_connections: self.max_connections.unwrap_or(default.max_connections),
            header_timeout: time(self.header_timeout, "headerTimeout", default.header_timeout)?,
            idle_timeout: time(self.idle_timeout, "idleTimeout", default.idle_timeout)?,
            body_idle_timeout: time(self.body_idle_timeout, "bodyIdleTimeout", default.body_idle_timeout)?,
            body_bytes_per_second: self.body_bytes_per_second.unwrap_or(default.body_bytes_per_second),
            body_grace: time(self.body_grace, "bodyGrace", default.body_grace)?,
            answer_stall_timeout: time(self.answer_stall_timeout, "answerStallTimeout", default.answer_stall_timeout)?,
            drain_timeout: time(self.drain_timeout, "drainTimeout", default.drain_timeout)?,
            held_drain_timeout: time(self.held_drain_timeout, "heldDrainTimeout", default.held_drain_timeout)?,
        };
        positive(limits.max_body_bytes, "maxBodyBytes")?;
        positive(limits.reading_bytes, "readingBytes")?;
        positive(limits.body_bytes_per_second, "bodyBytesPerSecond")?;
        positive(limits.max_connections as u64, "maxConnections")?;
        positive(u64::from(limits.caller_concurrency.unwrap_or(1)), "callerConcurrency")?;
        Ok(limits)
    }
}

/// Checks the name of a model or a namespace: a label of a host name, or with `_` a part of a path.
///
/// # Errors
/// It is none; the error says what is expected.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    let is_label = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_label { Ok(()) } else { Err("1 to 63 letters, digits, '-' or '_'") }
}

/// Longest part of a line of the file that an error repeats.
const QUOTED_CHARACTERS: usize = 120;

/// An error of the parser as one line of a log. It repeats the line of the file: not every error names its key.
fn syntax(error: &serde_saphyr::Error, text: &str) -> ConfigError {
    let message = UserMessageFormatter.format_message(error.without_snippet());
    let Some(at) = error.location() else { return ConfigError::Syntax(message.into_owned()) };
    let line = usize::try_from(at.line()).ok().and_then(|line| text.lines().nth(line.saturating_sub(1)));
    let quoted: String = line.unwrap_or_default().trim().chars().take(QUOTED_CHARACTERS).collect();
    ConfigError::Syntax(format!("line {} column {}: {message}, in `{quoted}`", at.line(), at.column()))
}

fn value(key: &str, value: &str, expected: &str) -> ConfigError {
    ConfigError::Value { key: key.to_owned(), value: value.to_owned(), expected: expected.to_owned() }
}

fn parsed<T: std::str::FromStr>(text: &str, key: &str, expected: &str) -> Result<T, ConfigError> {
    text.parse().map_err(|_| value(key, text, expected))
}

/// A duration as in a `Model`, above zero.
fn duration(text: &str, key: &str) -> Result<Duration, ConfigError> {
    let parsed = parse_duration(text).ok().filter(|duration| !duration.is_zero());
    parsed.ok_or_else(|| value(key, text, "a duration above 0 such as 50ms, 1.5s or 1m30s"))
}

#[cfg(test)]
mod tests;
