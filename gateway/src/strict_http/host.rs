//! The host that a request names, in its `Host` header and in its target.

use http::header::{HOST, HeaderMap};
use http::{HeaderValue, Uri};
use memchr::memchr;

use super::violation::Violation;

/// Longest target of a request.
const TARGET_BYTES: usize = 8 << 10;

/// `HOST[:PORT]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    host: &'a [u8],
    port: &'a [u8],
}

impl<'a> Authority<'a> {
    /// Host names and addresses as people use them; the rest of what RFC 3986 allows in a registered name (percent
    /// escapes, `!$&'()*+,;=`) only ever serves to make two parsers disagree.
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let (host, port) = if text.first() == Some(&b'[') {
            let end = text.iter().position(|byte| *byte == b']')?;
            let address = std::str::from_utf8(&text[1..end]).ok()?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            text.split_at(end + 1)
        } else {
            let end = memchr(b':', text).unwrap_or(text.len());
            let (host, port) = text.split_at(end);
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            if host.is_empty() || !all(host, is_name) {
                return None;
            }
            (host, port)
        };
        let port = match port.split_first() {
            None => port,
            Some((b':', digits)) if digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit) => digits,
            Some(_) => return None,
        };
        Some(Self { host, port })
    }

    /// Whether both name the same host and port, with 80 where none is written.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let port = |authority: &Self| -> Option<u16> {
            match authority.port {
                [] => Some(80),
                digits => std::str::from_utf8(digits).ok()?.parse().ok(),
            }
        };
        self.host.eq_ignore_ascii_case(other.host) && port(self) == port(other)
    }
}

/// Checks the target of a request; the authority that it names, if it is an absolute URI.
pub(super) fn check_target<'a>(target: &'a [u8], method: &str) -> Result<Option<Authority<'a>>, Violation> {
    if target.len() > TARGET_BYTES {
        return Err(Violation::TargetTooLong);
    }
    // No spaces or controls, nothing beyond ASCII, no fragment, which is never sent, and none of the delimiters that a URI
    // cannot have (RFC 3986, appendix C) and hyper refuses by itself.
    if !all(target, |byte| matches!(byte, 0x21..=0x7e) && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'`')) {
        return Err(Violation::Target);
    }
    match target {
        [b'/', ..] => Ok(None),
        b"*" if method == "OPTIONS" => Ok(None),
        _ => absolute(target).map(Some).ok_or(Violation::Target),
    }
}

/// Whether all bytes pass. None is passed over early, so that the compiler can look at many at a time.
fn all(bytes: &[u8], passes: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, byte| all & passes(*byte))
}

fn absolute(target: &[u8]) -> Option<Authority<'_>> {
    let scheme = b"http://";
    let (start, rest) = target.split_at_checked(scheme.len())?;
    if !start.eq_ignore_ascii_case(scheme) {
        return None;
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    Authority::parse(&rest[..end])
}

/// Checks the hosts of a request over HTTP/2: `:authority`, `Host` or both, which then must agree (RFC 9113, 8.3.1).
pub(super) fn check_http2_hosts(uri: &Uri, headers: &HeaderMap) -> Result<(), Violation> {
    let mut hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Violation::SeveralHosts);
    }
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    let parse = |text| Authority::parse(text).ok_or(Violation::Host);
    match (authority.map(parse).transpose()?, host.map(parse).transpose()?) {
        (None, None) => Err(Violation::NoHost),
        (Some(authority), Some(host)) if !authority.is_same(&host) => Err(Violation::HostMismatch),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_as_a_target_hyper_takes() {
        let mut passed = 0;
        for byte in 0..=u8::MAX {
            for (before, after) in
                [("/", "x"), ("/x?", ""), ("/x?y=", "/z"), ("http://a", ""), ("http://a/", "x"), ("http://a?", "")]
            {
                let target = [before.as_bytes(), &[byte], after.as_bytes()].concat();
                if check_target(&target, "GET").is_ok() {
                    passed += 1;
                    assert!(Uri::try_from(&target[..]).is_ok(), "{}", String::from_utf8_lossy(&target));
                }
            }
        }
        assert!(passed > 400, "letters, digits and most punctuation: {passed}");
    }

    #[test]
    fn delimiters_that_no_uri_has_are_refused() {
        for byte in ['"', '<', '>', '`', '#', ' ', '\u{7f}'] {
            for target in [format!("/{byte}"), format!("/?{byte}"), format!("http://a/{byte}")] {
                assert_eq!(check_target(target.as_bytes(), "GET"), Err(Violation::Target), "{target}");
            }
        }
    }
}
