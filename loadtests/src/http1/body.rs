//! Where an answer's body ends.

use bytes::{Buf, Bytes, BytesMut};

/// Longest line that announces a chunk, extensions included.
const MAX_CHUNK_LINE: usize = 4096;

/// The way in which a body's end is told.
#[derive(Clone, Debug)]
pub(super) enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// Chunks, each announced by its size.
    Chunk(ChunkState),
    /// The end of the connection.
    UntilClose,
}

/// Where in a chunked body the reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkState {
    /// A size line comes next.
    Size,
    /// So many bytes of data are left.
    Data(u64),
    /// The line end behind a chunk's data comes next.
    DataEnd,
    /// Trailers, up to the empty line.
    Trailers,
    /// The body is complete.
    End,
}

/// What a step over the buffer found.
#[derive(Debug)]
pub(super) enum Progress {
    /// A piece of the body.
    Data(Bytes),
    /// Framing was passed over.
    Passed,
    /// The buffer is used up.
    NeedsMore,
    /// The body is complete.
    Complete,
}

impl Framing {
    pub(super) const fn length(bytes: u64) -> Self {
        Self::Length(bytes)
    }

    pub(super) const fn chunked() -> Self {
        Self::Chunk(ChunkState::Size)
    }

    /// How many bytes are known to come.
    pub(super) const fn expected(&self) -> u64 {
        match self {
            Self::Length(left) | Self::Chunk(ChunkState::Data(left)) => *left,
            Self::Chunk(_) | Self::UntilClose => 0,
        }
    }

    /// Takes the next piece of body off the front of `buffer`.
    pub(super) fn advance(&mut self, buffer: &mut BytesMut) -> Result<Progress, String> {
        match self {
            Self::Length(0) => Ok(Progress::Complete),
            Self::Length(left) => Ok(take(left, buffer)),
            Self::UntilClose if buffer.is_empty() => Ok(Progress::NeedsMore),
            Self::UntilClose => Ok(Progress::Data(buffer.split().freeze())),
            Self::Chunk(state) => state.advance(buffer),
        }
    }
}

impl ChunkState {
    fn advance(&mut self, buffer: &mut BytesMut) -> Result<Progress, String> {
        match self {
            Self::Size => match httparse::parse_chunk_size(buffer) {
                Ok(httparse::Status::Complete((line, size))) => {
                    buffer.advance(line);
                    *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                    Ok(Progress::Passed)
                }
                Ok(httparse::Status::Partial) if buffer.len() > MAX_CHUNK_LINE => {
                    Err("a chunk's size line is too long".to_owned())
                }
                Ok(httparse::Status::Partial) => Ok(Progress::NeedsMore),
                Err(_) => Err("a chunk's size is not a hexadecimal number".to_owned()),
            },
            Self::Data(left) => {
                let progress = take(left, buffer);
                if *left == 0 {
                    *self = Self::DataEnd;
                }
                Ok(progress)
            }
            Self::DataEnd if buffer.len() < 2 => Ok(Progress::NeedsMore),
            Self::DataEnd => {
                if &buffer[..2] != b"\r\n" {
                    return Err("a chunk is longer than it says".to_owned());
                }
                buffer.advance(2);
                *self = Self::Size;
                Ok(Progress::Passed)
            }
            Self::Trailers => match buffer.windows(2).position(|pair| pair == b"\r\n") {
                Some(0) => {
                    buffer.advance(2);
                    *self = Self::End;
                    Ok(Progress::Complete)
                }
                Some(end) => {
                    buffer.advance(end + 2);
                    Ok(Progress::Passed)
                }
                None if buffer.len() > MAX_CHUNK_LINE => Err("a trailer is too long".to_owned()),
                None => Ok(Progress::NeedsMore),
            },
            Self::End => Ok(Progress::Complete),
        }
    }
}

fn take(left: &mut u64, buffer: &mut BytesMut) -> Progress {
    if buffer.is_empty() {
        return Progress::NeedsMore;
    }
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= length as u64;
    Progress::Data(buffer.split_to(length).freeze())
}
