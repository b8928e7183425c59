//! The `server-timing` header: the phases of a request in milliseconds, in the order in which they happened.

use std::fmt::Write;
use std::time::Duration;

use http::HeaderValue;

use crate::replica::Activation;

const NOT_HELD: HeaderValue = HeaderValue::from_static("hold;dur=0");

/// The gateway's phases before those of the replica, which may be in several lines: `hold`, and on the first use of a fresh
/// replica `claim`, `specialize` and `load`, with `backoff` before them where an attempt to bring one up had failed.
pub(crate) fn prepend<'a>(
    held: Option<Duration>,
    first_use: Option<Activation>,
    upstream: impl IntoIterator<Item = &'a HeaderValue>,
) -> HeaderValue {
    let mut upstream = upstream.into_iter().filter_map(|value| value.to_str().ok()).peekable();
    if held.is_none() && first_use.is_none() && upstream.peek().is_none() {
        return NOT_HELD;
    }
    let mut text = String::with_capacity(96 + upstream.peek().map_or(0, |line| line.len()));
    match held {
        Some(held) => push(&mut text, "hold", held),
        None => text.push_str("hold;dur=0"),
    }
    if let Some(Activation { backoff, claim, specialize, load }) = first_use {
        if !backoff.is_zero() {
            push(&mut text, "backoff", backoff);
        }
        for (name, phase) in [("claim", claim), ("specialize", specialize), ("load", load)] {
            push(&mut text, name, phase);
        }
    }
    for line in upstream.filter(|line| !line.is_empty()) {
        text.push_str(", ");
        text.push_str(line);
    }
    HeaderValue::try_from(text).unwrap_or(NOT_HELD)
}

fn push(text: &mut String, name: &str, phase: Duration) {
    let separator = if text.is_empty() { "" } else { ", " };
    // Writing to a string cannot fail.
    let _ = write!(text, "{separator}{name};dur={:.3}", phase.as_secs_f64() * 1e3);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_in_order() {
        let held = Some(Duration::from_micros(5_250));
        let activation = Activation {
            backoff: Duration::ZERO,
            claim: Duration::from_micros(800),
            specialize: Duration::from_millis(3),
            load: Duration::from_millis(1),
        };
        let upstream = HeaderValue::from_static("queue;dur=0.1, infer;dur=2");
        assert_eq!(
            prepend(held, Some(activation), [&upstream]),
            "hold;dur=5.250, claim;dur=0.800, specialize;dur=3.000, load;dur=1.000, queue;dur=0.1, infer;dur=2"
        );
        let delayed = Activation { backoff: Duration::from_secs(1), ..activation };
        assert_eq!(
            prepend(held, Some(delayed), []),
            "hold;dur=5.250, backoff;dur=1000.000, claim;dur=0.800, specialize;dur=3.000, load;dur=1.000"
        );
        assert_eq!(prepend(None, None, [&upstream]), "hold;dur=0, queue;dur=0.1, infer;dur=2");
        let another = HeaderValue::from_static("post;dur=3");
        assert_eq!(prepend(None, None, [&upstream, &another]), "hold;dur=0, queue;dur=0.1, infer;dur=2, post;dur=3");
        assert_eq!(prepend(held, None, []), "hold;dur=5.250");
        assert_eq!(prepend(None, None, []), "hold;dur=0");
    }
}
