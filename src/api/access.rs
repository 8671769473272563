//! Who is answered: one who names this service and not another, and has a token where one is asked for;
//! and what every answer says to browsers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;

use super::problem::Problem;
use crate::credentials::Tokens;

/// How long a request may take. A stream's answer begins at once.
const LONGEST: Duration = Duration::from_secs(20);

/// What every answer says to a browser.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    // The page has a policy of its own.
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Who may ask.
#[derive(Clone)]
pub struct Access {
    /// One of these lets a client in; none: no token is asked for.
    pub tokens: watch::Receiver<Option<Tokens>>,
    /// The names by which this service is called, where others are refused: those given and, always, those
    /// of the loopback and addresses. A page of another site can have its own name lead here, and then
    /// read what is answered (DNS rebinding); it can't make a browser call it by another name than its own.
    pub hosts: Option<Arc<[String]>>,
}

impl Access {
    /// Whether a `Host` header's value is a name of this service.
    fn knows_host(&self, host: &str) -> bool {
        let Some(hosts) = &self.hosts else {
            return true;
        };
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name == "localhost"
            || name.parse::<IpAddr>().is_ok()
            || hosts.iter().any(|one| one.eq_ignore_ascii_case(&name))
    }

    fn lets_in(&self, headers: &HeaderMap) -> Option<Pass> {
        let pass = Pass {
            tokens: self.tokens.clone(),
            token: token(headers),
        };
        pass.is_valid().then_some(pass)
    }
}

/// By what a client was let in.
#[derive(Clone)]
pub(super) struct Pass {
    tokens: watch::Receiver<Option<Tokens>>,
    token: Option<Vec<u8>>,
}

impl Pass {
    fn is_valid(&self) -> bool {
        match (&*self.tokens.borrow(), &self.token) {
            (None, _) => true,
            (Some(tokens), Some(token)) => tokens.include(token),
            (Some(_), None) => false,
        }
    }

    /// Until it lets nobody in any more.
    pub(super) async fn revoked(mut self) {
        while self.is_valid() {
            if self.tokens.changed().await.is_err() {
                // Nobody will revoke it.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The token of a request: a bearer's, or the password of HTTP Basic, whatever the user's name, which is
/// what a browser asks its user for.
fn token(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at(space);
    let rest = rest.trim_ascii();
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(rest.to_vec());
    }
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let pair = STANDARD.decode(rest).ok()?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Refuses whom [`Access`] does not let in, and answers in bounded time, whatever becomes of a handler.
pub(super) fn guard<S>(router: Router<S>, access: Access) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let of_defects = CatchPanicLayer::custom(|_| {
        Problem::internal("a defect in dockwarden: please report it").into_response()
    });
    router
        .layer(of_defects)
        .layer(middleware::from_fn_with_state(access, check))
}

async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    let mut response = answer(&access, request, next).await;
    for (name, value) in HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

async fn answer(access: &Access, mut request: Request, next: Next) -> Response {
    let hosts = request.headers().get_all(header::HOST).iter();
    let in_uri = request
        .uri()
        .authority()
        .map(|authority| authority.as_str());
    let mut named = hosts
        .map(|host| host.to_str().unwrap_or_default())
        .chain(in_uri);
    if !named.all(|host| access.knows_host(host)) {
        return Problem::misdirected().into_response();
    }
    // Whether it lives, and is ready, is no secret, and asked by those who have none.
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
    if let Some(pass) = access.lets_in(request.headers()) {
        request.extensions_mut().insert(pass);
    } else if !is_probe {
        let mut response = Problem::unauthorized().into_response();
        let challenge = |scheme| HeaderValue::from_static(scheme);
        let headers = response.headers_mut();
        for scheme in ["Basic realm=\"dockwarden\"", "Bearer realm=\"dockwarden\""] {
            headers.append(header::WWW_AUTHENTICATE, challenge(scheme));
        }
        return response;
    }
    match tokio::time::timeout(LONGEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::busy("this took too long").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    fn access(hosts: Option<&[&str]>) -> Access {
        let hosts = hosts.map(|hosts| hosts.iter().map(|host| (*host).to_owned()).collect());
        Access {
            tokens: watch::Sender::new(None).subscribe(),
            hosts,
        }
    }

    #[test]
    fn addresses_and_the_loopback_are_always_known() {
        let access = access(Some(&["status.example"]));
        for host in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "[::1]:8080",
            "[::1]",
            "192.0.2.7:80",
            "localhost:8080",
            "LOCALHOST",
            "localhost.",
            "status.example:8080",
            "Status.Example",
        ] {
            assert!(access.knows_host(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "status.example.evil.example",
            "evil.example:127.0.0.1",
            "",
            "[evil.example]",
        ] {
            assert!(!access.knows_host(host), "{host}");
        }
    }

    /// What a handler that never answers, and one that panics, are answered for.
    #[tokio::test(start_paused = true)]
    async fn a_handler_that_hangs_or_panics_has_an_answer_like_others() {
        let router = Router::new()
            .route("/hangs", get(std::future::pending::<()>))
            .route("/panics", get(defect));
        let router = guard(router, access(None));
        for (path, status, retry_after) in [("/hangs", 503, Some("2")), ("/panics", 500, None)] {
            let begun = tokio::time::Instant::now();
            let request = Request::get(path).body(Body::empty()).expect("a request");
            let response = router.clone().oneshot(request).await.expect("an answer");
            assert_eq!(response.status().as_u16(), status, "{path}");
            assert!(begun.elapsed() < LONGEST * 2, "{path}");
            let said =
                |name: &HeaderName| response.headers().get(name).map(|value| value.as_bytes());
            assert_eq!(
                said(&header::RETRY_AFTER),
                retry_after.map(str::as_bytes),
                "{path}"
            );
            let kind = "application/problem+json";
            assert_eq!(said(&header::CONTENT_TYPE), Some(kind.as_bytes()), "{path}");
            for (name, value) in HEADERS {
                assert_eq!(said(&name), Some(value.as_bytes()), "{path}");
            }
        }
    }

    async fn defect() {
        panic!("a defect, for a test");
    }

    #[test]
    fn without_names_none_is_refused() {
        assert!(access(None).knows_host("anything.example"));
    }

    #[test]
    fn a_token_is_a_bearer_s_or_a_password() {
        let found = |value: &str| {
            let value = HeaderValue::from_str(value).expect("a header's value");
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
            token(&headers).map(|token| String::from_utf8(token).expect("text"))
        };
        let basic = |pair: &str| format!("basic {}", STANDARD.encode(pair));
        for (value, expected) in [
            ("Bearer t0ken", Some("t0ken")),
            ("bearer  t0ken ", Some("t0ken")),
            (&basic("me:t0ken"), Some("t0ken")),
            (&basic(":t0:ken"), Some("t0:ken")),
            (&basic("t0ken"), None),
            ("Basic !", None),
            ("Digest t0ken", None),
            ("t0ken", None),
            ("", None),
        ] {
            assert_eq!(found(value).as_deref(), expected, "{value:?}");
        }
    }
}
