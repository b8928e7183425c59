//! How the connections of a server that stops come to their end.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// How long a connection without a request is kept once its server stops. A client that does not know yet has sent its next
/// request by then, also from another continent, and is answered with `connection: close`; HTTP/1 has no other way to tell it.
pub const LAME_DUCK: Duration = Duration::from_millis(300);

/// Tells a connection to `finish` and serves it until it has. A request that has arrived by now is read first, before the
/// connection is looked at as idle.
pub async fn finish<C: Future>(mut connection: Pin<&mut C>, finish: impl FnOnce(Pin<&mut C>)) -> C::Output {
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = tokio::task::yield_now() => {}
    }
    finish(connection.as_mut());
    connection.await
}
