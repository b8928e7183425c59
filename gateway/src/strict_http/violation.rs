//! What a client can get wrong in HTTP/1, and how the gateway hears of it.

use std::error::Error;

use http::uri::PathAndQuery;
use http::{Request, StatusCode, Version};

use super::host::{check_http2_hosts, check_target};

/// A request that is refused before anything acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Violation {
    /// A line that ends with LF alone (RFC 9112, 2.2 lets a server accept it; proxies that disagree can be played off).
    #[error("a line ends with LF alone: expected CR LF")]
    BareLineFeed,
    /// The request line is not `METHOD SP TARGET SP VERSION`.
    #[error("malformed request line: expected METHOD TARGET HTTP/1.1")]
    RequestLine,
    /// A version other than 1.0 and 1.1.
    #[error("unsupported version: expected HTTP/1.1, or HTTP/2 with prior knowledge")]
    Version,
    /// A header line is not `NAME ":" VALUE`, or has a byte that may not stand there.
    #[error("malformed header line: expected NAME: VALUE on one line, without control characters")]
    HeaderLine,
    /// The head is longer than the limit.
    #[error("the request's head is longer than 16 KiB")]
    HeadTooLarge,
    /// There are more header lines than the limit.
    #[error("the request has more than 100 header lines")]
    TooManyHeaders,
    /// The target is longer than the limit.
    #[error("the request's target is longer than 8 KiB")]
    TargetTooLong,
    /// The target is neither a path nor an absolute http URI.
    #[error(
        "malformed target: expected a path that starts with / or an absolute http URI, in printable ASCII without \" < > ` #"
    )]
    Target,
    /// A method that no route has.
    #[error("unknown method: expected GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS")]
    UnknownMethod,
    /// CONNECT or TRACE.
    #[error("CONNECT and TRACE are not served: this is no forward proxy")]
    ForbiddenMethod,
    /// An upgrade to HTTP/2.
    #[error("upgrading to HTTP/2 is not served: open the connection with HTTP/2 (prior knowledge)")]
    UpgradeToHttp2,
    /// HTTP/1.1 without a host.
    #[error("no Host header: HTTP/1.1 requires one")]
    NoHost,
    /// Several hosts.
    #[error("more than one Host header")]
    SeveralHosts,
    /// The host is not `NAME[:PORT]`.
    #[error("malformed Host header: expected NAME or NAME:PORT")]
    Host,
    /// An absolute target names another host than the Host header does.
    #[error("the target and the Host header name different hosts")]
    HostMismatch,
    /// The body's length is not a number.
    #[error("malformed Content-Length: expected one decimal number")]
    ContentLength,
    /// Several lengths, equal ones included.
    #[error("more than one Content-Length header")]
    SeveralContentLengths,
    /// Both framings at once.
    #[error("both Content-Length and Transfer-Encoding: a request has one of them")]
    LengthAndEncoding,
    /// An encoding other than `chunked`, or several, or one in HTTP/1.0.
    #[error("unsupported Transfer-Encoding: expected chunked, once, in HTTP/1.1")]
    TransferEncoding,
    /// The head did not arrive in time.
    #[error("the request's head did not arrive within the time limit")]
    HeadTimeout,
    /// A chunk does not start with its size in hexadecimal digits.
    #[error("malformed chunk size: expected up to 16 hexadecimal digits and CR LF")]
    ChunkSize,
    /// A chunk does not end where its size says.
    #[error("a chunk does not end with CR LF where its size says")]
    ChunkEnd,
    /// The extensions of the body's chunks are longer than the limit, or have a control character.
    #[error("chunk extensions are longer than 4 KiB or have a control character")]
    ChunkExtension,
    /// Chunks so small that handling them costs more than their bytes are worth.
    #[error("too many small chunks: send chunks of 256 bytes or more")]
    SmallChunks,
    /// The trailers are longer or more than the limit, or malformed.
    #[error("malformed trailers: expected at most 100 header lines and 8 KiB")]
    Trailers,
}

impl Violation {
    const ALL: [Self; 25] = [
        Self::BareLineFeed,
        Self::RequestLine,
        Self::Version,
        Self::HeaderLine,
        Self::HeadTooLarge,
        Self::TooManyHeaders,
        Self::TargetTooLong,
        Self::Target,
        Self::UnknownMethod,
        Self::ForbiddenMethod,
        Self::UpgradeToHttp2,
        Self::NoHost,
        Self::SeveralHosts,
        Self::Host,
        Self::HostMismatch,
        Self::ContentLength,
        Self::SeveralContentLengths,
        Self::LengthAndEncoding,
        Self::TransferEncoding,
        Self::HeadTimeout,
        Self::ChunkSize,
        Self::ChunkEnd,
        Self::ChunkExtension,
        Self::SmallChunks,
        Self::Trailers,
    ];

    /// The status of the answer; the connection closes after it.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::HeadTooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::ForbiddenMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownMethod | Self::UpgradeToHttp2 => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::HeadTimeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What is wrong with `request`, if something is: what the connection's filter put in its place over HTTP/1, and over
    /// HTTP/2 contradicting hosts and targets that HTTP/1 does not have, which hyper hands on.
    ///
    /// The filter does not write to the connection itself: answers to earlier requests on it may still be on their way.
    /// It hands a request on that says what was wrong, and the service answers it in its turn. Nobody else can send
    /// this method over HTTP/1: the filter refuses it.
    pub(crate) fn in_request<B>(request: &Request<B>) -> Option<Self> {
        if request.version() == Version::HTTP_2 {
            let uri = request.uri();
            let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
            let checked = check_target(target.as_bytes(), request.method().as_str());
            return checked.and_then(|_| check_http2_hosts(uri, request.headers())).err();
        }
        if request.method().as_str() != REFUSED_METHOD {
            return None;
        }
        let code = request.uri().path().strip_prefix('/')?.parse::<usize>().ok()?;
        Self::ALL.get(code).copied()
    }

    /// The violation in a body that made reading it fail with `error`, if one did.
    pub(crate) fn in_error(error: &hyper::Error) -> Option<Self> {
        let mut cause = error.source();
        while let Some(error) = cause {
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if let Some(violation) = inner.and_then(|inner| inner.downcast_ref::<Self>()) {
                return Some(*violation);
            }
            cause = error.source();
        }
        None
    }

    /// The request that is handed on in the place of the one that is refused.
    pub(super) fn to_request(self) -> String {
        let code = Self::ALL.iter().position(|violation| *violation == self).unwrap_or_default();
        format!("{REFUSED_METHOD} /{code} HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n")
    }
}

/// A method that no client can send past the filter.
const REFUSED_METHOD: &str = "REFUSED";
