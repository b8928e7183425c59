//! What is kept of an answer.

use std::time::Instant;

use bytes::Bytes;

use super::body::Framing;

/// How much of an answer is kept: each step costs allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Status, times and length.
    Nothing,
    /// Also the headers that say who served it and how long its phases took.
    Labels,
    /// Also the body.
    Body,
}

/// Headers of an answer that tell its story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// `server-timing`
    pub server_timing: Option<String>,
    /// `kferving-replica`
    pub replica: Option<String>,
    /// `kferving-reason`
    pub reason: Option<String>,
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Telling headers, unless [`Keep::Nothing`].
    pub labels: Labels,
    /// When its first byte was read.
    pub first_byte: Instant,
    /// When its last byte was read.
    pub done: Instant,
    /// The body, with [`Keep::Body`]; else empty.
    pub body: Bytes,
    /// Length of the body.
    pub body_bytes: u64,
    /// Whether its connection can carry another request.
    pub reusable: bool,
}

/// The parts of a head that matter here.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) framing: Framing,
    pub(super) keep_alive: bool,
    pub(super) labels: Labels,
}

impl Head {
    pub(super) fn read(response: &httparse::Response<'_, '_>, keep: Keep) -> Result<Self, String> {
        let status = response.code.ok_or("it has no status")?;
        let mut head = Self {
            status,
            framing: Framing::UntilClose,
            keep_alive: response.version == Some(1),
            labels: Labels::default(),
        };
        let mut chunked = false;
        let mut length = None;
        for header in response.headers.iter() {
            let name = header.name;
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(text(header.value)?.parse::<u64>().map_err(|error| format!("content-length: {error}"))?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = text(header.value)?.eq_ignore_ascii_case("chunked");
            } else if name.eq_ignore_ascii_case("connection") {
                head.keep_alive &= !text(header.value)?.eq_ignore_ascii_case("close");
            } else if keep != Keep::Nothing {
                let label = if name.eq_ignore_ascii_case("server-timing") {
                    &mut head.labels.server_timing
                } else if name.eq_ignore_ascii_case("kferving-replica") {
                    &mut head.labels.replica
                } else if name.eq_ignore_ascii_case(gateway_policy::REASON_HEADER) {
                    &mut head.labels.reason
                } else {
                    continue;
                };
                // A header given twice is one list, as HTTP reads it.
                match label {
                    Some(list) => {
                        list.push_str(", ");
                        list.push_str(text(header.value)?);
                    }
                    None => *label = Some(text(header.value)?.to_owned()),
                }
            }
        }
        head.framing = match (status, chunked, length) {
            (100..200 | 204 | 304, ..) => Framing::length(0),
            (_, true, _) => Framing::chunked(),
            (_, false, Some(length)) => Framing::length(length),
            (_, false, None) => Framing::UntilClose,
        };
        Ok(head)
    }
}

fn text(value: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(value).map_err(|_| "a header is not text".to_owned())
}
