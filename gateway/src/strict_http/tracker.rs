//! Where in the sequence of messages a connection stands.

use std::ops::Range;

use super::chunks::{ChunkProgress, Chunks};
use super::head::{Checked, Framing, HeadScan, check};
use super::violation::Violation;

/// Finds the heads in a client's bytes and checks them; bodies are skipped by their framing.
#[derive(Debug)]
pub(super) struct Tracker {
    phase: Phase,
    heads: u64,
    has_http10: bool,
}

#[derive(Debug)]
enum Phase {
    Head(HeadScan),
    Body { left: u64 },
    Chunked(Chunks),
}

/// How far some bytes go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All may be handed on.
    All,
    /// All may be handed on. It is one request with a body: its head has so many bytes, and this line of it tells the
    /// body's length.
    OneRequest(usize, Range<usize>),
    /// So many may be handed on, which end a message; the rest is of the next one, and comes again in its turn.
    Message(usize),
    /// None may be handed on: they are the beginning of a head, and come again with what follows it.
    Incomplete,
    /// None may be handed on: they begin with a head that must not be.
    BadHead(Violation),
    /// So many may be handed on, and then a body is broken.
    BadBody(usize, Violation),
}

impl Tracker {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Head(HeadScan::default()), heads: 0, has_http10: false }
    }

    /// Whether a head of HTTP/1.0 was among those that were handed on.
    pub(super) const fn has_http10(&self) -> bool {
        self.has_http10
    }

    /// Whether a body has begun and not ended.
    pub(super) const fn is_in_body(&self) -> bool {
        matches!(self.phase, Phase::Body { .. } | Phase::Chunked(_))
    }

    /// How many heads have been handed on, or are with what the last [`Tracker::advance`] lets pass.
    pub(super) const fn heads(&self) -> u64 {
        self.heads
    }

    /// Follows a message through `bytes`, which begin where the last call's [`Progress`] ended.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Progress {
        let mut position = 0;
        while position < bytes.len() {
            let rest = &bytes[position..];
            match &mut self.phase {
                Phase::Head(_) if position > 0 => return Progress::Message(position),
                Phase::Head(scan) => {
                    let checked = scan.end(bytes).and_then(|end| match end {
                        Some(end) => check(&bytes[..end]).map(|checked| Some((end, checked))),
                        None => Ok(None),
                    });
                    match checked {
                        Ok(Some((end, Checked { framing, length_line, is_http10 }))) => {
                            self.heads += 1;
                            self.has_http10 |= is_http10;
                            let body = bytes.len() - end;
                            if let Some(line) = length_line
                                && body > 0
                                && framing == Framing::Length(body as u64)
                            {
                                self.phase = Phase::Head(HeadScan::default());
                                return Progress::OneRequest(end, line);
                            }
                            position = end;
                            self.phase = Phase::after_head(framing);
                        }
                        Ok(None) => return Progress::Incomplete,
                        Err(violation) => return Progress::BadHead(violation),
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
