//! Where in the sequence of messages a connection stands.

use std::ops::Range;

use super::chunks::{ChunkProgress, Chunks};
use super::head::{Checked, Framing, HeadScan, check};
use super::violation::Violation;

/// What an HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Finds the heads in a client's bytes and checks them; bodies are skipped by their framing.
#[derive(Debug)]
pub(super) struct Tracker {
    phase: Phase,
    heads: u64,
}

#[derive(Debug)]
enum Phase {
    /// Nothing but a part of the preface has arrived.
    Start,
    Head(HeadScan),
    Body {
        left: u64,
    },
    Chunked(Chunks),
    Http2,
}

/// How far some bytes go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All may be handed on.
    All,
    /// All may be handed on. It is one request with a body: its head has so many bytes, and this line of it tells the
    /// body's length.
    OneRequest(usize, Range<usize>),
    /// So many may be handed on; the rest is the beginning of a head, and comes again with what follows it.
    Until(usize),
    /// So many may be handed on, and then comes a head that must not be.
    BadHead(usize, Violation),
    /// So many may be handed on, and then a body is broken.
    BadBody(usize, Violation),
}

impl Tracker {
    pub(super) const fn new() -> Self {
        Self { phase: Phase::Start, heads: 0 }
    }

    /// Whether nothing has arrived yet.
    pub(super) const fn is_fresh(&self) -> bool {
        matches!(self.phase, Phase::Start)
    }

    /// Whether a body has begun and not ended.
    pub(super) const fn is_in_body(&self) -> bool {
        matches!(self.phase, Phase::Body { .. } | Phase::Chunked(_))
    }

    /// How many heads have been handed on, or are with what the last [`Tracker::advance`] lets pass.
    pub(super) const fn heads(&self) -> u64 {
        self.heads
    }

    /// Follows the messages through `bytes`, which begin where the last call's [`Progress`] ended.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Progress {
        let mut position = 0;
        while position < bytes.len() {
            let rest = &bytes[position..];
            match &mut self.phase {
                Phase::Http2 => return Progress::All,
                Phase::Start => {
                    let common = rest.len().min(PREFACE.len());
                    if rest[..common] != PREFACE[..common] {
                        self.phase = Phase::Head(HeadScan::default());
                    } else if common == PREFACE.len() {
                        self.phase = Phase::Http2;
                    } else {
                        return Progress::Until(position);
                    }
                }
                Phase::Head(scan) => {
                    let checked = scan.end(rest).and_then(|end| match end {
                        Some(end) => check(&rest[..end]).map(|checked| Some((end, checked))),
                        None => Ok(None),
                    });
                    match checked {
                        Ok(Some((end, Checked { framing, length_line }))) => {
                            self.heads += 1;
                            let body = bytes.len() - position - end;
                            if let Some(line) = length_line
                                && position == 0
                                && body > 0
                                && framing == Framing::Length(body as u64)
                            {
                                self.phase = Phase::Head(HeadScan::default());
                                return Progress::OneRequest(end, line);
                            }
                            position += end;
                            self.phase = Phase::after_head(framing);
                        }
                        Ok(None) => return Progress::Until(position),
                        Err(violation) => return Progress::BadHead(position, violation),
                    }
                }
                Phase::Body { left } => {
                    let skipped = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= skipped as u64;
                    position += skipped;
                    if *left == 0 {
                        self.phase = Phase::Head(HeadScan::default());
                    }
                }
                Phase::Chunked(chunks) => match chunks.advance(rest) {
                    ChunkProgress::More => return Progress::All,
                    ChunkProgress::End(end) => {
                        position += end;
                        self.phase = Phase::Head(HeadScan::default());
                    }
                    ChunkProgress::Violated(end, violation) => {
                        return Progress::BadBody(position + end, violation);
                    }
                },
            }
        }
        Progress::All
    }
}

impl Phase {
    fn after_head(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Head(HeadScan::default()),
            Framing::Length(left) => Self::Body { left },
            Framing::Chunked => Self::Chunked(Chunks::new()),
        }
    }
}
