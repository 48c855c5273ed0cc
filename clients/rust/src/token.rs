//! Where tokens come from.
use crate::core::TokenReason;
use crate::error::Cause;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What a provider gives: a token; `None` if there is none and asking again is no use; an error, after which it is asked again.
type Given = Pin<Box<dyn Future<Output = Result<Option<String>, Cause>> + Send>>;

/// A token, or what can get one whenever one is needed.
#[derive(Clone)]
pub struct Token(Source);

#[derive(Clone)]
enum Source {
    Fixed(String),
    Provider(Arc<dyn Fn(TokenReason) -> Given + Send + Sync>),
}

impl Token {
    /// Asked to connect, when the token in use ends soon, and when the server accepts it no longer (R-SDK-2).
    ///
    /// `Ok(None)`: there is no token, and asking again is no use; the client stops. An error: the client asks again after a while.
    ///
    /// ```
    /// # use throng_client::Token;
    /// # async fn ask_my_backend() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// let token = Token::provider(|_reason| async { ask_my_backend().await.map(Some) });
    /// ```
    pub fn provider<P, F, E>(provider: P) -> Token
    where
        P: Fn(TokenReason) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Option<String>, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Token(Source::Provider(Arc::new(move |reason| {
            let given = provider(reason);
            Box::pin(async move { given.await.map_err(|error| Cause::from(error.into())) })
        })))
    }

    pub(crate) fn is_provider(&self) -> bool {
        matches!(self.0, Source::Provider(_))
    }

    pub(crate) async fn get(self, reason: TokenReason) -> Result<Option<String>, Cause> {
        match self.0 {
            Source::Fixed(token) => Ok(Some(token)),
            Source::Provider(provider) => provider(reason).await,
        }
    }
}

impl From<String> for Token {
    fn from(token: String) -> Token {
        Token(Source::Fixed(token))
    }
}

impl From<&str> for Token {
    fn from(token: &str) -> Token {
        Token(Source::Fixed(token.to_owned()))
    }
}

/// Without the token: it is a secret (R-SEC-1).
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_provider() { "Token(provider)" } else { "Token(fixed)" })
    }
}
