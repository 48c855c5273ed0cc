//! Where a client may put its token in the upgrade request (R-AUTH-1).
use super::head::Head;
use super::response::Failure;
use super::upgrade::Upgrade;
use crate::base::refusal::Code;
use std::borrow::Cow;
use std::fmt;
use thiserror::Error;

/// Our subprotocol. Answered when offered; a token in the offer is not repeated.
pub const PROTOCOL: &str = "throng.v1";

const PROTOCOL_TOKEN_PREFIX: &str = "bearer.";

/// What an upgrade request brings.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// Not verified. `None`: an `auth` frame must follow.
    pub token: Option<Cow<'a, str>>,
    /// The subprotocol for the answer.
    pub protocol: Option<&'static str>,
}

/// Tokens stay out of logs (R-SEC-1).
impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Credentials").field("token", &token).field("protocol", &self.protocol).finish()
    }
}

/// Why the tokens of a request are not even looked at; the client is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    #[error("the request carries differing tokens")]
    Differing,
    /// Refused rather than ignored: whoever sends it would wonder why it does not work.
    #[error("token in the address, but auth.allow_query_token is off")]
    QueryNotAllowed,
    #[error("empty token")]
    Empty,
}

impl TokenError {
    /// The answer.
    pub fn failure(self) -> Failure {
        let bad = |message| Failure::of(400, Code::InvalidArgument, message);
        match self {
            // "invalid_request: … uses more than one method for including an access token" (RFC 6750 3.1)
            TokenError::Differing => bad("Differing tokens"),
            TokenError::QueryNotAllowed => bad("Token in the address: auth.allow_query_token is off"),
            TokenError::Empty => Failure::bad_token(),
        }
    }
}

/// The token of an upgrade request, from `Authorization: Bearer`, from the offer `throng.v1, bearer.<token>`, or from
/// `?token=` if `auth.allow_query_token` is on. The same token in several places is one token.
///
/// Other schemes of `Authorization` are not for us (a proxy may have its own) and do not count.
pub fn bearer_token<'a>(
    head: &Head<'a>,
    upgrade: &Upgrade<'a>,
    allow_query_token: bool,
) -> Result<Credentials<'a>, TokenError> {
    request_token(head, &upgrade.protocols, allow_query_token)
}

/// The same of any request; one that is no upgrade offers no protocols.
pub fn request_token<'a>(
    head: &Head<'a>,
    protocols: &[&'a str],
    allow_query_token: bool,
) -> Result<Credentials<'a>, TokenError> {
    let mut credentials = Credentials::default();
    for value in head.headers("authorization") {
        let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
        if scheme.eq_ignore_ascii_case("bearer") {
            credentials.add(Cow::Borrowed(token.trim_matches(' ')))?;
        }
    }
    for protocol in protocols {
        if *protocol == PROTOCOL {
            credentials.protocol = Some(PROTOCOL);
        } else if let Some(token) = protocol.strip_prefix(PROTOCOL_TOKEN_PREFIX) {
            credentials.add(Cow::Borrowed(token))?;
        }
    }
    for token in head.query_params("token") {
        if !allow_query_token {
            return Err(TokenError::QueryNotAllowed);
        }
        credentials.add(token)?;
    }
    Ok(credentials)
}

impl<'a> Credentials<'a> {
    fn add(&mut self, token: Cow<'a, str>) -> Result<(), TokenError> {
        match &self.token {
            _ if token.is_empty() => Err(TokenError::Empty),
            Some(known) if *known != token => Err(TokenError::Differing),
            Some(_) => Ok(()),
            None => {
                self.token = Some(token);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http::{check, parse_head};

    /// Token and protocol of a request with this query and these header lines.
    fn found(query: &str, lines: &str, allow: bool) -> Result<(Option<String>, Option<&'static str>), TokenError> {
        let text = format!(
            "GET /ws{query} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
        );
        let head = parse_head(text.as_bytes()).unwrap().unwrap();
        let upgrade = check(&head).unwrap();
        let credentials = bearer_token(&head, &upgrade, allow)?;
        Ok((credentials.token.map(Cow::into_owned), credentials.protocol))
    }

    const OFFER: &str = "Sec-WebSocket-Protocol: throng.v1, bearer.a.b-c_d\r\n";

    #[test]
    fn each_place() {
        let token = Some("a.b-c_d".to_string());
        assert_eq!(found("", "", false), Ok((None, None)));
        assert_eq!(found("", "Authorization: Bearer a.b-c_d\r\n", false), Ok((token.clone(), None)));
        assert_eq!(found("", "authorization: bearer   a.b-c_d\r\n", false), Ok((token.clone(), None)));
        assert_eq!(found("", OFFER, false), Ok((token.clone(), Some(PROTOCOL))));
        assert_eq!(found("", "Sec-WebSocket-Protocol: bearer.a.b-c_d\r\n", false), Ok((token.clone(), None)));
        assert_eq!(found("", "Sec-WebSocket-Protocol: throng.v1\r\n", false), Ok((None, Some(PROTOCOL))));
        assert_eq!(found("?token=a.b%2Dc_d", "", true), Ok((token, None)));
    }

    #[test]
    fn the_same_token_twice_is_fine() {
        let lines = format!("Authorization: Bearer a.b-c_d\r\n{OFFER}");
        let expected = Ok((Some("a.b-c_d".to_string()), Some(PROTOCOL)));
        assert_eq!(found("?token=a.b-c_d&token=a.b-c_d", &lines, true), expected);
    }

    #[test]
    fn differing_tokens_are_refused_wherever_they_are() {
        let other = "Authorization: Bearer other\r\n";
        assert_eq!(found("", &format!("{other}{OFFER}"), false), Err(TokenError::Differing));
        assert_eq!(found("?token=a", other, true), Err(TokenError::Differing));
        assert_eq!(found("?token=a&token=b", "", true), Err(TokenError::Differing));
        assert_eq!(found("", "Sec-WebSocket-Protocol: bearer.a, bearer.b\r\n", false), Err(TokenError::Differing));
        assert_eq!(TokenError::Differing.failure().status, 400);
    }

    #[test]
    fn a_token_in_the_address_is_refused_unless_allowed() {
        assert_eq!(found("?token=a", "", false), Err(TokenError::QueryNotAllowed));
        assert_eq!(found("?x=1&token=", "", false), Err(TokenError::QueryNotAllowed));
        assert_eq!(found("?tokens=a", "", false), Ok((None, None)));
        let failure = TokenError::QueryNotAllowed.failure();
        assert_eq!(failure.status, 400);
        assert!(failure.message.contains("auth.allow_query_token"));
    }

    #[test]
    fn an_empty_token_is_a_bad_token() {
        for lines in ["Authorization: Bearer\r\n", "Authorization: Bearer  \r\n", "Sec-WebSocket-Protocol: bearer.\r\n"]
        {
            assert_eq!(found("", lines, false), Err(TokenError::Empty), "{lines}");
        }
        assert_eq!(found("?token=", "", true), Err(TokenError::Empty));
        assert_eq!(TokenError::Empty.failure().status, 401);
    }

    #[test]
    fn other_schemes_are_not_for_us() {
        assert_eq!(found("", "Authorization: Basic dTpw\r\n", false), Ok((None, None)));
    }

    #[test]
    fn debug_output_shows_no_token() {
        let credentials = Credentials { token: Some("secret".into()), protocol: Some(PROTOCOL) };
        let shown = format!("{credentials:?}");
        assert!(shown.contains(PROTOCOL) && !shown.contains("secret"), "{shown}");
    }
}
