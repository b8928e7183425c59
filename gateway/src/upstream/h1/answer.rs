//! The head of an answer: what it says, and how its body is framed.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::H1Error;
use crate::inference::ADDED_HEADERS;
use crate::strict_http::parse_length;

/// Longest head of an answer.
pub(super) const HEAD_BYTES: usize = 64 << 10;

/// Most header lines of an answer.
const HEADERS: usize = 100;

/// How the body that follows a head is delimited (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The end of the connection.
    Close,
}

#[derive(Debug)]
pub(super) struct AnswerHead {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// Whether the connection may be used for another request.
    pub(super) keep_alive: bool,
}

impl AnswerHead {
    /// Takes a head from the start of `bytes`; `None`, and nothing is taken, while it is incomplete.
    pub(super) fn parse(bytes: &mut Bytes, method: &Method) -> Result<Option<Self>, H1Error> {
        let mut lines = [const { MaybeUninit::uninit() }; HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, bytes, &mut lines)
            .map_err(|error| H1Error::Malformed(of_parser(error)))?;
        let (length, is_complete) = match parsed {
            httparse::Status::Complete(length) => (length, true),
            httparse::Status::Partial => (bytes.len(), false),
        };
        if length > HEAD_BYTES {
            return Err(H1Error::Malformed("its head is longer than 64 KiB"));
        }
        if !is_complete {
            return Ok(None);
        }
        let (Some(version), Some(code)) = (response.version, response.code) else {
            return Err(H1Error::Malformed(STATUS_LINE));
        };
        let status = StatusCode::from_u16(code).map_err(|_| H1Error::Malformed(STATUS_LINE))?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(H1Error::Malformed("it switches protocols unasked"));
        }
        // Values stay where they arrived: none is copied. What delimits the answer is picked up in passing.
        let mut headers = HeaderMap::with_capacity(response.headers.len() + ADDED_HEADERS);
        let mut fields = Fields::default();
        for line in &*response.headers {
            let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| H1Error::Malformed(HEADER_LINE))?;
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value));
            let value = value.map_err(|_| H1Error::Malformed(HEADER_LINE))?;
            fields.note(&name, line.value)?;
            headers.append(name, value);
        }
        let announced = fields.framing(version)?;
        let framing = if has_no_body(status, method) { Framing::Length(0) } else { announced };
        // Some servers send a body that they announce where none may be, and later than anyone looks: it would be taken for
        // the next answer.
        let is_clear = framing == announced || (*method != Method::HEAD && announced == Framing::Close);
        let keep_alive = framing != Framing::Close && is_clear && fields.is_kept_alive(version);
        bytes.advance(length);
        Ok(Some(Self { status, headers, framing, keep_alive }))
    }
}

const STATUS_LINE: &str = "its first line is not HTTP/1.1 and a status";
const HEADER_LINE: &str = "a header line is not NAME: VALUE";

fn of_parser(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::TooManyHeaders => "it has more than 100 header lines",
        httparse::Error::Version | httparse::Error::Status => STATUS_LINE,
        _ => HEADER_LINE,
    }
}

/// Whether no body follows the head, whatever that announces.
fn has_no_body(status: StatusCode, method: &Method) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The headers that delimit an answer.
#[derive(Default)]
struct Fields<'a> {
    length: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    says_close: bool,
    says_keep_alive: bool,
}

impl<'a> Fields<'a> {
    fn note(&mut self, name: &HeaderName, value: &'a [u8]) -> Result<(), H1Error> {
        let field = if *name == CONTENT_LENGTH {
            &mut self.length
        } else if *name == TRANSFER_ENCODING {
            &mut self.encoding
        } else {
            if *name == CONNECTION {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.says_close |= option.eq_ignore_ascii_case(b"close");
                    self.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            return Ok(());
        };
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(H1Error::Malformed("more than one Content-Length or Transfer-Encoding")),
        }
    }

    /// What the head says of the body. Stricter than RFC 9112, 6.3 where a lenient reader would have to choose: both framings, a length given twice and an
    /// encoding other than `chunked` are errors.
    fn framing(&self, version: u8) -> Result<Framing, H1Error> {
        match (self.length, self.encoding) {
            (Some(_), Some(_)) => Err(H1Error::Malformed("both Content-Length and Transfer-Encoding")),
            (Some(length), None) => {
                let length = parse_length(length);
                Ok(Framing::Length(length.map_err(|_| H1Error::Malformed("its Content-Length is no decimal number"))?))
            }
            (None, Some(encoding)) if version == 1 && encoding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (None, Some(_)) => Err(H1Error::Malformed("its Transfer-Encoding is not chunked in HTTP/1.1")),
            (None, None) => Ok(Framing::Close),
        }
    }

    fn is_kept_alive(&self, version: u8) -> bool {
        !self.says_close && (version == 1 || self.says_keep_alive)
    }
}
