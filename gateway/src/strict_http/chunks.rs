//! The syntax of a chunked body (RFC 9112, 7.1), followed byte by byte without keeping any.

use bytes::{Buf, Bytes, BytesMut};

use super::violation::Violation;

/// Digits of a chunk's size: what fills 64 bits.
const SIZE_DIGITS: u8 = 16;

/// Bytes of chunk extensions in one body. Nobody uses them but attackers.
const EXTENSION_BYTES: u32 = 4 << 10;

/// Chunks that a body may have however small they are: a streaming client that flushes each sample.
const FREE_CHUNKS: u64 = 16 << 10;

/// Beyond those, the bytes that a chunk must have on average.
const BYTES_PER_CHUNK: u64 = 256;

/// Trailer lines, and their bytes together: within hyper's own limits.
const TRAILERS: u8 = 100;
const TRAILER_BYTES: u32 = 8 << 10;

/// Where in a chunked body the connection stands.
#[derive(Debug)]
pub(crate) struct Chunks {
    state: State,
    /// The bytes that a chunk must have on average, beyond the free ones.
    bytes_per_chunk: u64,
    chunks: u64,
    bytes: u64,
    extension_bytes: u32,
    trailer_bytes: u32,
    trailers: u8,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size { value: u64, digits: u8 },
    Extension { size: u64 },
    SizeLineFeed { size: u64 },
    Data { left: u64 },
    DataReturn,
    DataLineFeed,
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    EndLineFeed,
}

const START: State = State::Size { value: 0, digits: 0 };

/// How far a piece of a body went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunkProgress {
    /// All of the piece belongs to the body, which goes on.
    More,
    /// The body ended after this many bytes of the piece.
    End(usize),
    /// The byte at this position may not stand there.
    Violated(usize, Violation),
}

/// What came next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Data of one chunk, or a part of it.
    Data(Bytes),
    /// Nothing: more must arrive first.
    More,
    /// The end of the body.
    End,
}

/// Where a walk over what is not data stopped.
enum Stop {
    Data(usize),
    More,
    End(usize),
    Violated(usize, Violation),
}

impl Chunks {
    /// Of a client's body.
    pub(super) const fn new() -> Self {
        Self {
            state: START,
            bytes_per_chunk: BYTES_PER_CHUNK,
            chunks: 0,
            bytes: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
            trailers: 0,
        }
    }

    /// Of a replica's answer, whose chunks may be small: it may be a stream of words.
    pub(crate) const fn of_answer() -> Self {
        Self { bytes_per_chunk: 0, ..Self::new() }
    }

    /// Follows the body through `piece`.
    pub(super) fn advance(&mut self, piece: &[u8]) -> ChunkProgress {
        let mut position = 0;
        loop {
            match self.delimiters(piece, position) {
                Stop::Data(start) => position = start + self.data(piece.len() - start),
                Stop::More => return ChunkProgress::More,
                Stop::End(end) => return ChunkProgress::End(end),
                Stop::Violated(at, violation) => return ChunkProgress::Violated(at, violation),
            }
        }
    }

    /// Takes the next data out of `buffer`, and what delimits it.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) -> Result<Taken, Violation> {
        match self.delimiters(buffer, 0) {
            Stop::Data(start) => {
                buffer.advance(start);
                let count = self.data(buffer.len());
                Ok(Taken::Data(buffer.split_to(count).freeze()))
            }
            Stop::More => {
                buffer.clear();
                Ok(Taken::More)
            }
            Stop::End(end) => {
                buffer.advance(end);
                Ok(Taken::End)
            }
            Stop::Violated(_, violation) => Err(violation),
        }
    }

    /// Skips data of which `available` bytes are there; how many they are.
    fn data(&mut self, available: usize) -> usize {
        let State::Data { left } = &mut self.state else { return 0 };
        let count = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
        *left -= count as u64;
        if *left == 0 {
            self.state = State::DataReturn;
        }
        count
    }

    /// Follows what is not data, from `position`.
    fn delimiters(&mut self, piece: &[u8], mut position: usize) -> Stop {
        while let Some(&byte) = piece.get(position) {
            match (self.state, byte) {
                (State::Data { .. }, _) => return Stop::Data(position),
                (State::EndLineFeed, b'\n') => return Stop::End(position + 1),
                _ => match self.step(byte) {
                    Ok(state) => self.state = state,
                    Err(violation) => return Stop::Violated(position, violation),
                },
            }
            position += 1;
        }
        Stop::More
    }

    /// The state after a byte that is not data.
    fn step(&mut self, byte: u8) -> Result<State, Violation> {
        match self.state {
            State::Size { value, digits } => Self::size(value, digits, byte),
            State::Extension { size } => self.extension(size, byte),
            State::SizeLineFeed { size } => {
                expect(byte, b'\n', Violation::ChunkSize)?;
                if size == 0 { Ok(State::TrailerStart) } else { self.start_chunk(size) }
            }
            // Data is skipped by its caller; its end is the return.
            State::Data { .. } | State::DataReturn => {
                expect(byte, b'\r', Violation::ChunkEnd).map(|()| State::DataLineFeed)
            }
            State::DataLineFeed => expect(byte, b'\n', Violation::ChunkEnd).map(|()| START),
            State::TrailerStart if byte == b'\r' => Ok(State::EndLineFeed),
            State::TrailerStart | State::Trailer => self.trailer(byte),
            State::TrailerLineFeed => expect(byte, b'\n', Violation::Trailers).map(|()| State::TrailerStart),
            State::EndLineFeed => Err(Violation::Trailers),
        }
    }

    fn size(value: u64, digits: u8, byte: u8) -> Result<State, Violation> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Ok(State::SizeLineFeed { size: value }),
            b';' if digits > 0 => return Ok(State::Extension { size: value }),
            _ => return Err(Violation::ChunkSize),
        };
        if digits == SIZE_DIGITS {
            return Err(Violation::ChunkSize);
        }
        Ok(State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
    }

    fn extension(&mut self, size: u64, byte: u8) -> Result<State, Violation> {
        if byte == b'\r' {
            return Ok(State::SizeLineFeed { size });
        }
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES || (byte.is_ascii_control() && byte != b'\t') {
            return Err(Violation::ChunkExtension);
        }
        Ok(State::Extension { size })
    }

    fn start_chunk(&mut self, size: u64) -> Result<State, Violation> {
        self.chunks += 1;
        self.bytes = self.bytes.saturating_add(size);
        if self.chunks.saturating_sub(FREE_CHUNKS).saturating_mul(self.bytes_per_chunk) > self.bytes {
            return Err(Violation::SmallChunks);
        }
        Ok(State::Data { left: size })
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Violation> {
        let starts = matches!(self.state, State::TrailerStart);
        self.trailers += u8::from(starts);
        self.trailer_bytes += 1;
        let bad = byte == b'\n' || self.trailers > TRAILERS || self.trailer_bytes > TRAILER_BYTES;
        match byte {
            _ if bad => Err(Violation::Trailers),
            b'\r' => Ok(State::TrailerLineFeed),
            _ => Ok(State::Trailer),
        }
    }
}

fn expect(byte: u8, expected: u8, violation: Violation) -> Result<(), Violation> {
    if byte == expected { Ok(()) } else { Err(violation) }
}
