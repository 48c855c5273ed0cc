//! The head of an HTTP/1.1 request, borrowed from the bytes received.
//!
//! `httparse` splits it; this file bounds it and refuses what two parsers could read differently (RFC 9112 11.2),
//! because there may be a proxy in front of us that must see the same request.
use super::response::Failure;
use crate::base::refusal::Code;
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX};
use std::borrow::Cow;
use std::fmt;
use thiserror::Error;

/// Headers of which a second one makes the request ambiguous.
const SINGLE: [&str; 6] =
    ["host", "origin", "content-length", "sec-websocket-key", "sec-websocket-version", "authorization"];

/// Headers that nobody here reads and that old clients fill with other encodings than UTF-8.
const OPAQUE: [&str; 3] = ["cookie", "user-agent", "referer"];

/// A complete and unambiguous request head.
pub struct Head<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    minor_version: u8,
    headers: [(&'a str, &'a str); HTTP_HEADERS_MAX],
    header_count: usize,
    len: usize,
}

/// Why there is no head. The peer is to blame; the connection ends with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeadError {
    /// Above `HTTP_HEAD_BYTES_MAX` or `HTTP_HEADERS_MAX`: 431 (R-CONN-2).
    #[error("request head too large")]
    TooLarge,
    /// Not HTTP/1, or broken: 400.
    #[error("malformed request head")]
    Malformed,
    /// Could be read in two ways: 400.
    #[error("ambiguous request head")]
    Ambiguous,
}

impl HeadError {
    /// The answer.
    pub fn failure(self) -> Failure {
        match self {
            HeadError::TooLarge => Failure::new(431, "head_too_large", "Request head too large"),
            HeadError::Malformed => Failure::of(400, Code::InvalidFormat, "Malformed request"),
            HeadError::Ambiguous => Failure::of(400, Code::InvalidFormat, "Ambiguous request"),
        }
    }
}

/// Parses the head at the start of `bytes`. `None`: it is not complete; call again with more.
///
/// What follows the head (`bytes[head.len()..]`) is the caller's: a body, or frames that a hasty client sent early.
pub fn parse_head(bytes: &[u8]) -> Result<Option<Head<'_>>, HeadError> {
    let bounded = &bytes[..bytes.len().min(HTTP_HEAD_BYTES_MAX)];
    let mut raw = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut raw);
    let len = match request.parse(bounded) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() >= HTTP_HEAD_BYTES_MAX => return Err(HeadError::TooLarge),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(_) => return Err(HeadError::Malformed),
    };
    let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version) else {
        return Err(HeadError::Malformed);
    };
    let mut headers = [("", ""); HTTP_HEADERS_MAX];
    let mut header_count = 0;
    for header in &*request.headers {
        match std::str::from_utf8(header.value) {
            Ok(value) => {
                headers[header_count] = (header.name, value.trim_matches([' ', '\t']));
                header_count += 1;
            }
            Err(_) if OPAQUE.iter().any(|name| name.eq_ignore_ascii_case(header.name)) => {}
            Err(_) => return Err(HeadError::Malformed),
        }
    }
    let (authority, path, query) = split_target(target)?;
    let head = Head { method, path, query, minor_version, headers, header_count, len };
    head.check_unambiguous(authority)?;
    Ok(Some(head))
}

impl<'a> Head<'a> {
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// Path without query, not decoded. Starts with `/`, or is `*`.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// What follows the `?`, not decoded. May hold a token: never log it (R-SEC-1).
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// Bytes of the head, the blank line included.
    #[expect(clippy::len_without_is_empty, reason = "a head is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub fn minor_version(&self) -> u8 {
        self.minor_version
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers(name).next()
    }

    /// All headers of this name, in order.
    pub fn headers<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a str> + 'h {
        let named = move |(n, value): &(&'a str, &'a str)| n.eq_ignore_ascii_case(name).then_some(*value);
        self.headers[..self.header_count].iter().filter_map(named)
    }

    /// The members of a comma-separated list, over all headers of this name (RFC 9110 5.6.1: empty ones do not count).
    pub fn list<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'a str> + 'h {
        self.headers(name)
            .flat_map(|value| value.split(','))
            .map(|member| member.trim_matches([' ', '\t']))
            .filter(|member| !member.is_empty())
    }

    /// Whether a list header names this token, whatever the case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|member| member.eq_ignore_ascii_case(token))
    }

    /// The first value of a query parameter, decoded as browsers encode forms (`%xx`, `+` for a space).
    pub fn query_param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.query_params(name).next()
    }

    /// All values of a query parameter.
    pub fn query_params<'h>(&'h self, name: &'h str) -> impl Iterator<Item = Cow<'a, str>> + 'h {
        self.query.unwrap_or("").split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (!pair.is_empty() && form_decoded(key) == name).then(|| form_decoded(value))
        })
    }

    /// Whether a body follows.
    pub fn has_body(&self) -> bool {
        self.header("transfer-encoding").is_some()
            || self.header("content-length").is_some_and(|length| length.bytes().any(|digit| digit != b'0'))
    }

    fn check_unambiguous(&self, authority: Option<&str>) -> Result<(), HeadError> {
        if SINGLE.iter().any(|name| self.headers(name).nth(1).is_some()) {
            return Err(HeadError::Ambiguous);
        }
        if let Some(length) = self.header("content-length") {
            if length.is_empty() || !length.bytes().all(|b| b.is_ascii_digit()) {
                return Err(HeadError::Malformed);
            }
            if self.header("transfer-encoding").is_some() {
                return Err(HeadError::Ambiguous);
            }
        }
        match (self.header("host"), authority) {
            // "A server MUST respond with a 400 to any HTTP/1.1 request message that lacks a Host header" (RFC 9112 3.2)
            (None, _) if self.minor_version >= 1 => Err(HeadError::Malformed),
            (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => Err(HeadError::Ambiguous),
            _ => Ok(()),
        }
    }
}

/// Names what was asked, not the query or the headers: both may hold tokens (R-SEC-1).
impl fmt::Debug for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head").field("method", &self.method).field("path", &self.path).finish_non_exhaustive()
    }
}

type Target<'a> = (Option<&'a str>, &'a str, Option<&'a str>);

/// Authority (of the absolute form, which servers must accept, RFC 9112 3.2.2), path, query.
fn split_target(target: &str) -> Result<Target<'_>, HeadError> {
    if target.contains('#') {
        return Err(HeadError::Malformed);
    }
    let (authority, rest) = match target.split_once("://") {
        Some((scheme, rest)) if ["http", "https"].iter().any(|s| s.eq_ignore_ascii_case(scheme)) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        _ => (None, target),
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let path = if path.is_empty() && authority.is_some() { "/" } else { path };
    if !path.starts_with('/') && path != "*" {
        return Err(HeadError::Malformed);
    }
    Ok((authority, path, query))
}

/// `application/x-www-form-urlencoded` as the URL standard decodes it: a broken escape stands for itself.
fn form_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let escape = after.first_chunk().and_then(|digits| hex(*digits));
        bytes.push(match (first, escape) {
            (b'%', Some(byte)) => {
                rest = &after[2..];
                byte
            }
            (b'+', _) => b' ',
            _ => *first,
        });
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
