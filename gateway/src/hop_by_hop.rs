//! Headers that end at this gateway.
//!
//! What describes one connection must not reach the next (RFC 9110, 7.6.1), and what KFerving and Knative tell their own
//! parts must not come from a client.

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HeaderMap, HeaderName, HeaderValue};

/// Prefixes of the headers that only KFerving's and Knative's own parts may send to a replica.
const INTERNAL_PREFIXES: [&str; 2] = ["kferving-", "knative-serving-"];

/// Headers that a `connection` header cannot remove, because the meaning of the message rests on them.
const ESSENTIAL: [&str; 3] = ["host", "content-length", "content-type"];

/// Removes from a client's request what is not for the replica. What the client expects before it sends its body is
/// between it and the gateway, which waits for the body itself.
pub(crate) fn strip_request(headers: &mut HeaderMap) {
    strip(headers, |name| *name == EXPECT || is_hop_by_hop(name) || is_internal(name));
}

/// Makes one header of the cookies that a client sends one by one, as it may over HTTP/2 alone (RFC 9113, 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

/// Removes from a replica's response with this status what is not for the client.
pub(crate) fn strip_response(status: StatusCode, headers: &mut HeaderMap) {
    strip(headers, is_hop_by_hop);
    if status == StatusCode::NO_CONTENT {
        // It may not be there (RFC 9110, 8.6), and over HTTP/2 clients take it for a broken promise.
        headers.remove(CONTENT_LENGTH);
    }
}

fn strip(headers: &mut HeaderMap, drops: impl Fn(&HeaderName) -> bool) {
    // Usually there is none, and one pass over the names is all.
    if headers.keys().any(&drops) {
        strip_those(headers, drops);
    }
}

#[cold]
fn strip_those(headers: &mut HeaderMap, drops: impl Fn(&HeaderName) -> bool) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderValue> = headers.get_all(CONNECTION).iter().cloned().collect();
        for name in listed.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
            remove_listed(headers, name.trim_ascii());
        }
    }
    while let Some(name) = headers.keys().find(|name| drops(name)).cloned() {
        headers.remove(name);
    }
}

fn remove_listed(headers: &mut HeaderMap, name: &[u8]) {
    let Ok(name) = HeaderName::from_bytes(name) else { return };
    if !ESSENTIAL.contains(&name.as_str()) {
        headers.remove(name);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
    )
}

fn is_internal(name: &HeaderName) -> bool {
    INTERNAL_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    const EVERY_HOP: [(&str, &str); 8] = [
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("http2-settings", "AAMAAABk"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authorization", "Basic Zm9v"),
    ];

    #[test]
    fn what_belongs_to_one_connection_stays_there_both_ways() {
        for strip in [strip_request, |headers: &mut HeaderMap| strip_response(StatusCode::OK, headers)] {
            let mut map = headers(&EVERY_HOP);
            map.insert("accept", HeaderValue::from_static("*/*"));
            strip(&mut map);
            assert_eq!(names(&map), ["accept"]);
        }
    }

    #[test]
    fn what_connection_lists_goes_with_it() {
        let mut map = headers(&[
            ("connection", "close, X-Auth ,, not a name"),
            ("connection", "x-other"),
            ("x-auth", "secret"),
            ("x-other", "1"),
            ("x-kept", "1"),
        ]);
        strip_request(&mut map);
        assert_eq!(names(&map), ["x-kept"]);
    }

    #[test]
    fn connection_cannot_take_a_message_apart() {
        let mut map = headers(&[
            ("connection", "host, content-length, content-type"),
            ("host", "digits.vision"),
            ("content-length", "3"),
            ("content-type", "application/json"),
        ]);
        strip_request(&mut map);
        assert_eq!(names(&map), ["content-length", "content-type", "host"]);
    }

    #[test]
    fn a_client_cannot_speak_for_the_gateway() {
        let lines = [
            ("kferving-revision", "vision/digits-cpu-00001@sha256:00"),
            ("kferving-made-up", "1"),
            ("knative-serving-revision", "x"),
            ("kfervingish", "1"),
            ("traceparent", "00-0-0-01"),
        ];
        let mut map = headers(&lines);
        strip_request(&mut map);
        assert_eq!(names(&map), ["kfervingish", "traceparent"]);
    }

    #[test]
    fn a_replica_may_say_why_it_answered_so() {
        let mut map = headers(&[("kferving-reason", "bad-request"), ("connection", "close")]);
        strip_response(StatusCode::BAD_REQUEST, &mut map);
        assert_eq!(names(&map), ["kferving-reason"]);
    }

    #[test]
    fn repeated_headers_go_altogether() {
        let mut map = headers(&[("te", "trailers"), ("te", "gzip"), ("kferving-x", "1"), ("kferving-x", "2")]);
        strip_request(&mut map);
        assert!(map.is_empty());
    }
}
