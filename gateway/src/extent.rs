//! How much a client may send.

use crate::error::Error;
use crate::grpc::PREFIX_BYTES;

/// How much of a body may still come.
#[derive(Debug)]
pub(crate) enum Extent {
    /// So many bytes.
    Body { left: u64, limit: u64 },
    /// As many messages as the client has to send. None is longer than a body may be.
    Messages(Messages),
}

/// Follows the messages of a gRPC stream.
#[derive(Debug)]
pub(crate) struct Messages {
    limit: u64,
    /// What has come of the present message's prefix.
    prefix: [u8; PREFIX_BYTES],
    prefix_length: usize,
    /// Bytes of the present message that are still to come.
    left: u64,
    has_one: bool,
}

impl Extent {
    /// A body of at most `limit` bytes.
    pub(crate) const fn of_body(limit: u64) -> Self {
        Self::Body { left: limit, limit }
    }

    /// A stream of messages, each of at most `limit` bytes.
    pub(crate) const fn of_messages(limit: u64) -> Self {
        Self::Messages(Messages { limit, prefix: [0; PREFIX_BYTES], prefix_length: 0, left: 0, has_one: false })
    }

    /// Takes these bytes into account.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match self {
            Self::Body { left, limit } => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(Error::BodyTooLarge { limit: *limit })?;
                Ok(())
            }
            Self::Messages(messages) => messages.advance(bytes),
        }
    }

    /// Whether it ends by itself: a stream lasts for as long as its client likes.
    pub(crate) const fn is_bounded(&self) -> bool {
        matches!(self, Self::Body { .. })
    }

    /// Whether what has come is a part that a replica can answer by itself.
    pub(crate) const fn has_answerable(&self) -> bool {
        match self {
            Self::Body { .. } => false,
            Self::Messages(messages) => messages.has_one,
        }
    }

    /// Whether the client may be silent: between messages it thinks.
    pub(crate) const fn may_pause(&self) -> bool {
        match self {
            Self::Body { .. } => false,
            Self::Messages(messages) => messages.prefix_length == 0,
        }
    }
}

impl Messages {
    fn advance(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            if self.prefix_length < PREFIX_BYTES {
                let (byte, rest) = (bytes[0], &bytes[1..]);
                self.prefix[self.prefix_length] = byte;
                self.prefix_length += 1;
                bytes = rest;
                if self.prefix_length == PREFIX_BYTES {
                    let [_, length @ ..] = self.prefix;
                    self.left = u64::from(u32::from_be_bytes(length));
                    if self.left > self.limit {
                        return Err(Error::BodyTooLarge { limit: self.limit });
                    }
                }
            } else {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= taken as u64;
                bytes = &bytes[taken..];
            }
            if self.prefix_length == PREFIX_BYTES && self.left == 0 {
                self.prefix_length = 0;
                self.has_one = true;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: u32) -> Vec<u8> {
        [&[0][..], &length.to_be_bytes(), &vec![b'x'; length as usize]].concat()
    }

    #[test]
    fn a_body_may_have_as_many_bytes_as_it_may() {
        let mut extent = Extent::of_body(10);
        assert_eq!(extent.advance(&[0; 10]), Ok(()));
        assert!(!extent.may_pause() && !extent.has_answerable());
        assert_eq!(extent.advance(b"x"), Err(Error::BodyTooLarge { limit: 10 }));
    }

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let stream = [message(7), message(0), message(300), message(1)].concat();
        let ends = [12, 17, 322, 328];
        for piece in [1, 2, 5, 6, 11, 328] {
            let mut extent = Extent::of_messages(300);
            let mut sent = 0;
            for bytes in stream.chunks(piece) {
                extent.advance(bytes).unwrap();
                sent += bytes.len();
                assert_eq!(extent.may_pause(), ends.contains(&sent), "{sent} bytes in pieces of {piece}");
                assert_eq!(extent.has_answerable(), sent >= ends[0]);
            }
        }
    }

    #[test]
    fn a_stream_may_be_long_and_a_message_not() {
        let mut extent = Extent::of_messages(10);
        for _ in 0..100 {
            assert_eq!(extent.advance(&message(10)), Ok(()));
        }
        assert_eq!(extent.advance(&message(11)[..5]), Err(Error::BodyTooLarge { limit: 10 }), "at its prefix");
    }

    #[test]
    fn a_client_may_think_before_its_first_message() {
        assert!(Extent::of_messages(10).may_pause());
    }
}
