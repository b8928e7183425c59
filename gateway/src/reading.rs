//! The beginnings of bodies, and the bound on those that are still being read.
//!
//! A body that is read before it has a replica is in no model's hold yet, and its client may never end it. What all of
//! them have in memory is counted here, until the hold counts what its requests keep. The model server, which has no such
//! queue, counts a request's bytes in one place until the model has it run.
//!
//! Of a longer body the hold has the beginning alone. While its request waits, the rest is read on: a client whose bytes
//! nobody takes cannot be seen to leave. That rest is counted here too, and is left to the client when it would take room
//! from bodies that cannot wait for it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use prometheus::IntGauge;

use crate::error::Error;

/// A frame of at least this length is kept as it came, a shorter one is copied to the others: each frame that is kept
/// takes some 100 bytes beside its own, and may keep a larger piece of its connection's buffer.
const KEPT_FRAME_BYTES: usize = 8 << 10;

/// Short frames are copied into pieces of about this length: few enough, and each is given out, and no longer counted, by itself.
const GATHERED_BYTES: usize = 64 << 10;

/// The bodies of a gateway that are being read.
pub(crate) struct Readings {
    bytes: IntGauge,
    limit: u64,
}

/// One of them, until it is dropped.
pub(crate) struct Reading<'a> {
    readings: &'a Readings,
    prefix: Prefix,
}

/// What has come of a body after its beginning, while its request waits.
pub(crate) struct Backlog {
    bytes: IntGauge,
    limit: u64,
    prefix: Prefix,
}

/// The beginning of a body, in as many pieces as it is kept in.
#[derive(Default)]
pub(crate) struct Prefix {
    pieces: VecDeque<Bytes>,
    /// What comes after them: short frames.
    gathered: BytesMut,
    length: u64,
}

impl Readings {
    /// At most `limit` bytes at a time. `bytes` tells how many there are.
    pub(crate) const fn new(bytes: IntGauge, limit: u64) -> Self {
        Self { bytes, limit }
    }

    /// A body of which nothing has been read.
    pub(crate) fn begin(&self) -> Reading<'_> {
        Reading { readings: self, prefix: Prefix::default() }
    }

    /// Of a body that is read on while its request waits.
    pub(crate) fn backlog(&self) -> Backlog {
        // The other half is for bodies that are refused where there is no room.
        Backlog { bytes: self.bytes.clone(), limit: self.limit / 2, prefix: Prefix::default() }
    }
}

impl Reading<'_> {
    /// Bytes read.
    pub(crate) const fn length(&self) -> u64 {
        self.prefix.length
    }

    /// Adds what has come.
    pub(crate) fn push(&mut self, data: Bytes) -> Result<(), Error> {
        let Readings { bytes, limit } = self.readings;
        bytes.add(data.len() as i64);
        self.prefix.push(data);
        if bytes.get() > i64::try_from(*limit).unwrap_or(i64::MAX) {
            return Err(Error::ReadingFull { limit: *limit });
        }
        Ok(())
    }

    /// What has been read. From here on it is counted where the request waits.
    pub(crate) fn finish(mut self) -> Prefix {
        let mut prefix = std::mem::take(&mut self.prefix);
        self.readings.bytes.sub(prefix.length as i64);
        prefix.close_gathered();
        prefix
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.readings.bytes.sub(self.prefix.length as i64);
    }
}

impl Backlog {
    /// Whether the next piece may be taken from the client.
    pub(crate) fn has_room(&self) -> bool {
        u64::try_from(self.bytes.get()).is_ok_and(|bytes| bytes < self.limit)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.prefix.length == 0
    }

    pub(crate) fn push(&mut self, data: Bytes) {
        self.bytes.add(data.len() as i64);
        self.prefix.push(data);
    }

    /// The next piece.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let data = self.prefix.pop()?;
        self.bytes.sub(data.len() as i64);
        Some(data)
    }

    /// Nobody wants it any more.
    pub(crate) fn clear(&mut self) {
        let unwanted = std::mem::take(&mut self.prefix);
        self.bytes.sub(unwanted.length as i64);
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Prefix {
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    fn push(&mut self, data: Bytes) {
        self.length += data.len() as u64;
        if data.len() < KEPT_FRAME_BYTES {
            self.gathered.extend_from_slice(&data);
            if self.gathered.len() >= GATHERED_BYTES {
                self.close_gathered();
            }
        } else {
            self.close_gathered();
            self.pieces.push_back(data);
        }
    }

    fn close_gathered(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.gathered).freeze());
        }
    }

    /// One of the pieces.
    pub(crate) fn piece(&self, index: usize) -> Option<Bytes> {
        self.pieces.get(index).cloned()
    }

    /// Takes the first piece out.
    fn pop(&mut self) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.close_gathered();
        }
        let data = self.pieces.pop_front()?;
        self.length -= data.len() as u64;
        Some(data)
    }

    /// All of it in one piece.
    pub(crate) fn joined(&self) -> Bytes {
        match self.pieces.len() {
            0 => Bytes::new(),
            1 => self.pieces[0].clone(),
            _ => {
                let mut whole = BytesMut::with_capacity(usize::try_from(self.length).unwrap_or(0));
                self.pieces.iter().for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(limit: u64) -> Readings {
        Readings::new(IntGauge::new("bytes", "bytes").unwrap(), limit)
    }

    #[test]
    fn what_is_read_stays_in_order_whatever_its_pieces() {
        let readings = readings(1 << 20);
        let mut reading = readings.begin();
        let mut expected = Vec::new();
        for (index, length) in
            [1, 1, KEPT_FRAME_BYTES, 3, KEPT_FRAME_BYTES + 1, KEPT_FRAME_BYTES, 2].into_iter().enumerate()
        {
            let frame = vec![index as u8; length];
            expected.extend_from_slice(&frame);
            reading.push(frame.into()).unwrap();
        }
        let prefix = reading.finish();
        assert_eq!((prefix.length(), prefix.joined()), (expected.len() as u64, expected.into()));
    }

    #[test]
    fn short_frames_are_one_piece() {
        let readings = readings(1 << 20);
        let mut reading = readings.begin();
        (0..10_000).for_each(|_| reading.push(Bytes::from_static(b"x")).unwrap());
        let prefix = reading.finish();
        assert_eq!((prefix.pieces.len(), prefix.length()), (1, 10_000));
    }

    #[test]
    fn what_is_read_on_is_given_out_in_order_and_counted_until_then() {
        let readings = readings(8 * KEPT_FRAME_BYTES as u64);
        let mut backlog = readings.backlog();
        let (mut expected, mut given) = (Vec::new(), Vec::new());
        for length in [1, 2, KEPT_FRAME_BYTES, 3, KEPT_FRAME_BYTES, 4] {
            let frame = vec![expected.len() as u8; length];
            expected.extend_from_slice(&frame);
            backlog.push(frame.into());
            assert_eq!(readings.bytes.get() as usize, expected.len() - given.len());
            if length == 3 {
                given.extend_from_slice(&backlog.pop().unwrap());
            }
        }
        given.extend(std::iter::from_fn(|| backlog.pop()).flatten());
        assert_eq!((given == expected, readings.bytes.get(), backlog.is_empty()), (true, 0, true));
    }

    #[test]
    fn short_frames_that_are_read_on_are_given_out_piece_by_piece() {
        let readings = readings(8 * GATHERED_BYTES as u64);
        let mut backlog = readings.backlog();
        for _ in 0..3 * GATHERED_BYTES / 1024 {
            backlog.push(Bytes::from_static(&[b'x'; 1024]));
        }
        assert_eq!(backlog.pop().unwrap().len(), GATHERED_BYTES);
        assert_eq!(readings.bytes.get(), 2 * GATHERED_BYTES as i64);
        backlog.clear();
        assert_eq!((readings.bytes.get(), backlog.is_empty(), backlog.pop()), (0, true, None));
    }

    #[test]
    fn what_is_read_on_leaves_half_of_the_room_to_others() {
        let readings = readings(10);
        let mut backlog = readings.backlog();
        backlog.push(Bytes::from_static(b"1234"));
        assert!(backlog.has_room());
        backlog.push(Bytes::from_static(b"5"));
        assert!(!backlog.has_room() && !readings.backlog().has_room());
        let mut other = readings.begin();
        assert_eq!(other.push(Bytes::from_static(b"12345")), Ok(()));
        drop((backlog, other));
        assert_eq!(readings.bytes.get(), 0);
    }

    #[test]
    fn all_that_is_being_read_is_counted_and_no_more_than_the_limit() {
        let readings = readings(10);
        let (mut one, mut other) = (readings.begin(), readings.begin());
        one.push(Bytes::from_static(b"123456")).unwrap();
        assert_eq!(other.push(Bytes::from_static(b"12345")), Err(Error::ReadingFull { limit: 10 }));
        drop(other);
        assert_eq!(readings.bytes.get(), 6);
        assert_eq!(one.finish().length(), 6);
        assert_eq!(readings.bytes.get(), 0);
    }
}
