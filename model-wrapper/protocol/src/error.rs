//! Why an inference was not answered, in terms that hold for every wire format.

use std::borrow::Cow;

/// An inference that failed. The front maps it to HTTP in one place and to gRPC in another; the text goes to the caller, so it
/// names tensors and numbers, never paths or addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    /// The request is not what the protocol says.
    #[error("{0}")]
    BadRequest(String),
    /// A tensor is not what the model or its own description says.
    #[error("{tensor}: expected {expected}, got {got}")]
    InvalidInput {
        /// Which one and, for an element, where: `input 'x', element 3`.
        tensor: String,
        /// What would have been right.
        expected: String,
        /// What came.
        got: String,
    },
    /// No such model, or no such version of it.
    #[error("{0}")]
    NotFound(String),
    /// The request is larger than this server takes.
    #[error("{what} is larger than {limit} bytes, the limit of this server")]
    TooLarge {
        /// What is too large: `the body`.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body has a content encoding that this server does not decode.
    #[error("content-encoding '{0}' is not supported: send gzip, deflate or none")]
    UnsupportedEncoding(String),
    /// The request names a revision that this server does not hold; it was not executed.
    #[error("this replica holds {held}, the request is for {wanted}")]
    Misdirected {
        /// The revision it holds, or `no revision`.
        held: String,
        /// The revision asked for, or `none`.
        wanted: String,
    },
    /// As many requests as allowed are running; it was not executed.
    #[error("all {limit} places of this replica are taken")]
    Busy {
        /// Requests at a time.
        limit: usize,
    },
    /// The requests in memory are as large as allowed together; it was not executed.
    #[error("the requests that this replica has in memory are as large as it allows, {limit} bytes together")]
    Full {
        /// Bytes of all requests.
        limit: usize,
    },
    /// The deadline passed, in the queue or while the model ran.
    #[error("the deadline passed before the model had answered")]
    DeadlineExceeded,
    /// The caller left.
    #[error("the request was cancelled")]
    Cancelled,
    /// This server takes no inference now; it was not executed.
    #[error("{message}")]
    Unavailable {
        /// Why.
        reason: Unavailable,
        /// For people.
        message: String,
    },
    /// The model's run failed on inputs that fit its metadata. Whose fault that is cannot be told here: dimensions that do not
    /// agree with one another fail like memory that runs out.
    #[error("{0}")]
    RunFailed(String),
    /// This server failed, or the device that its model runs on.
    #[error("{0}")]
    Internal(String),
}

/// Why a server takes no inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Its model could not be loaded.
    LoadFailed,
    /// Its model is still being loaded.
    Loading,
    /// It is being drained.
    Draining,
    /// The process is stopping.
    ShuttingDown,
}

/// What a caller calls something, as an error shows it: an error is not to be as long as the request.
pub(crate) fn shorten(text: &str) -> Cow<'_, str> {
    const SHOWN: usize = 80;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

impl InferError {
    /// An error about the input called `name`.
    pub fn input(name: &str, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::InvalidInput { tensor: format!("input '{}'", shorten(name)), expected: expected.into(), got: got.into() }
    }

    /// The value of the header `kferving-reason` and of the metric label of the same name.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::InvalidInput { .. } => "bad-request",
            Self::NotFound(_) => "model-not-found",
            Self::TooLarge { .. } => "body-too-large",
            Self::UnsupportedEncoding(_) => "unsupported-encoding",
            Self::Misdirected { .. } => "misdirected",
            Self::Busy { .. } | Self::Full { .. } => "replica-busy",
            Self::DeadlineExceeded => "deadline",
            Self::Cancelled => "cancelled",
            Self::Unavailable { reason: Unavailable::LoadFailed, .. } => "load-failed",
            Self::Unavailable { reason: Unavailable::Loading, .. } => "loading",
            Self::Unavailable { reason: Unavailable::Draining, .. } => "draining",
            Self::Unavailable { reason: Unavailable::ShuttingDown, .. } => "shutting-down",
            Self::RunFailed(_) => "run-failed",
            Self::Internal(_) => "internal",
        }
    }
}
