//! Small writes in one piece.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A head and a body that are no longer than this together are copied into one piece: a plain send costs the kernel less
/// than one that gathers, by more than the copy. Longer ones are gathered where they are.
pub(crate) const COPIED_BYTES: usize = 4 << 10;

/// A connection that sends the pieces of a small message as one.
#[derive(Debug)]
pub(crate) struct Gathering<S> {
    io: S,
}

impl<S> Gathering<S> {
    pub(crate) const fn new(io: S) -> Self {
        Self { io }
    }

    pub(crate) const fn get_ref(&self) -> &S {
        &self.io
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let io = Pin::new(&mut self.io);
        if let [slice] = slices {
            return io.poll_write(cx, slice);
        }
        let length = slices.iter().fold(0_usize, |length, slice| length.saturating_add(slice.len()));
        if length > COPIED_BYTES {
            return io.poll_write_vectored(cx, slices);
        }
        let mut space = [MaybeUninit::uninit(); COPIED_BYTES];
        let mut whole = ReadBuf::uninit(&mut space);
        slices.iter().for_each(|slice| whole.put_slice(slice));
        io.poll_write(cx, whole.filled())
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn pieces_of_every_length_arrive_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut client = Gathering::new(client);
        for body in [0, 1, COPIED_BYTES - 5, COPIED_BYTES - 4, COPIED_BYTES, 3 * COPIED_BYTES] {
            let body = vec![b'b'; body];
            let slices = [IoSlice::new(b"head"), IoSlice::new(&body)];
            let written = client.write_vectored(&slices).await.unwrap();
            assert_eq!(written, 4 + body.len());
            let mut arrived = vec![0; written];
            server.read_exact(&mut arrived).await.unwrap();
            assert_eq!(arrived, [b"head", body.as_slice()].concat());
        }
        assert!(client.is_write_vectored());
    }
}
