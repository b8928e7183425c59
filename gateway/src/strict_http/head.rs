//! One request's head: where it ends, whether it is well-formed, and how its body is framed.

use std::mem::MaybeUninit;
use std::ops::Range;

use memchr::{memchr, memrchr};

use super::host::{Authority, check_target};
use super::violation::Violation;

/// Longest head, request line included. A quarter of it is more than browsers and gRPC clients send.
const HEAD_BYTES: usize = 16 << 10;

/// Most header lines; hyper's own limit.
const HEADERS: usize = 100;

/// How the body that follows a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes; none where neither header is there.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// Looks for the end of a head that may arrive in pieces; each byte is looked at once.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    scanned: usize,
    line_start: usize,
}

impl HeadScan {
    /// The length of the head at the start of `bytes`; `None` while it is incomplete. `bytes` begins at the same place
    /// in every call.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Violation> {
        let window = &bytes[..bytes.len().min(HEAD_BYTES)];
        while let Some(offset) = memchr(b'\n', &window[self.scanned..]) {
            let line_feed = self.scanned + offset;
            if line_feed == 0 || window[line_feed - 1] != b'\r' {
                return Err(Violation::BareLineFeed);
            }
            let line = self.line_start..line_feed - 1;
            self.scanned = line_feed + 1;
            self.line_start = self.scanned;
            // One empty line before a request line is skipped (RFC 9112, 2.2): old clients send it after a body.
            if line.is_empty() && line.start != 0 {
                return if line.start == EMPTY_LINE.len() && window.starts_with(EMPTY_LINE) {
                    Err(Violation::RequestLine)
                } else {
                    Ok(Some(self.scanned))
                };
            }
        }
        self.scanned = window.len();
        if bytes.len() > HEAD_BYTES { Err(Violation::HeadTooLarge) } else { Ok(None) }
    }
}

const EMPTY_LINE: &[u8] = b"\r\n";

/// A head that can be read in one way.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) framing: Framing,
    /// Where in the head its `content-length` line is, if it has one.
    pub(super) length_line: Option<Range<usize>>,
    /// Whether it is of HTTP/1.0: its client takes the end of the connection for the end of an answer without a length.
    pub(super) is_http10: bool,
}

/// Checks a complete head, whose lines all end with CR LF.
pub(super) fn check(head: &[u8]) -> Result<Checked, Violation> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS];
    let mut request = httparse::Request::new(&mut []);
    // The parser that hyper uses: what passes here is not refused there.
    match request.parse_with_uninit_headers(head, &mut headers) {
        Ok(status) if status.is_complete() => {}
        Ok(_) => return Err(Violation::RequestLine),
        Err(error) => return Err(of_parser(error)),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Violation::RequestLine);
    };
    check_method(method)?;
    let fields = Fields::collect(request.headers)?;
    let in_target = check_target(target.as_bytes(), method)?;
    check_host(fields.host, in_target, version)?;
    Ok(Checked {
        framing: fields.framing(version)?,
        length_line: fields.length.and_then(|value| line_of(head, value)),
        is_http10: version == 0,
    })
}

/// Where the line is, its end included, of which `part` is a part.
fn line_of(head: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let position = part.as_ptr().addr() - head.as_ptr().addr();
    let start = memrchr(b'\n', &head[..position])? + 1;
    let end = position + memchr(b'\n', &head[position..])? + 1;
    Some(start..end)
}

fn of_parser(error: httparse::Error) -> Violation {
    match error {
        httparse::Error::TooManyHeaders => Violation::TooManyHeaders,
        httparse::Error::Version => Violation::Version,
        httparse::Error::Token => Violation::RequestLine,
        _ => Violation::HeaderLine,
    }
}

fn check_method(method: &str) -> Result<(), Violation> {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" => Ok(()),
        "CONNECT" | "TRACE" => Err(Violation::ForbiddenMethod),
        _ => Err(Violation::UnknownMethod),
    }
}

fn check_host(host: Option<&[u8]>, in_target: Option<Authority<'_>>, version: u8) -> Result<(), Violation> {
    let Some(host) = host else {
        // HTTP/1.0 had no Host header.
        return if version == 0 { Ok(()) } else { Err(Violation::NoHost) };
    };
    let host = Authority::parse(host).ok_or(Violation::Host)?;
    match in_target {
        Some(authority) if !authority.is_same(&host) => Err(Violation::HostMismatch),
        _ => Ok(()),
    }
}

/// The headers on which the meaning of a message rests.
#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn collect(headers: &[httparse::Header<'a>]) -> Result<Self, Violation> {
        let mut fields = Self::default();
        for header in headers {
            let name = header.name;
            // The lengths differ, so that one comparison at most is made for a header.
            let (field, repeated) = match name.len() {
                4 if name.eq_ignore_ascii_case("host") => (&mut fields.host, Violation::SeveralHosts),
                14 if name.eq_ignore_ascii_case("content-length") => {
                    (&mut fields.length, Violation::SeveralContentLengths)
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    (&mut fields.encoding, Violation::TransferEncoding)
                }
                7 if name.eq_ignore_ascii_case("upgrade") && asks_for_http2(header.value) => {
                    return Err(Violation::UpgradeToHttp2);
                }
                _ => continue,
            };
            if field.replace(header.value).is_some() {
                return Err(repeated);
            }
        }
        Ok(fields)
    }

    fn framing(&self, version: u8) -> Result<Framing, Violation> {
        match (self.length, self.encoding) {
            (None, None) => Ok(Framing::Length(0)),
            (Some(_), Some(_)) => Err(Violation::LengthAndEncoding),
            (Some(length), None) => parse_length(length).map(Framing::Length),
            (None, Some(encoding)) if version == 1 && encoding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (None, Some(_)) => Err(Violation::TransferEncoding),
        }
    }
}

/// A `content-length`. 18 digits: beyond any body, and far from overflow.
pub(crate) fn parse_length(value: &[u8]) -> Result<u64, Violation> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Violation::ContentLength);
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// Whether an `upgrade` header names HTTP/2. Other upgrades are ignored, as RFC 9110 allows, and not handed on.
fn asks_for_http2(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|protocol| {
        let protocol = protocol.trim_ascii();
        protocol.eq_ignore_ascii_case(b"h2c") || protocol.eq_ignore_ascii_case(b"h2")
    })
}
