//! The answer to `GET /containers` as most ask for it: all of it, as JSON. It is made when someone asks and what
//! it is made of has changed; everyone else gets the bytes that are there.

use std::io::Write;
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use super::Sources;
use super::listing::listing;
use super::problem::Problem;
use super::turns::{Turn, Turns, WAIT, aside, body_of};
use crate::journal::Newest;
use crate::status::{Enforcement, Snapshot};

const A_DAY: i64 = 86_400;

/// The answer that is ready.
#[derive(Clone)]
pub(super) struct Ready {
    latest: Arc<Mutex<Option<Arc<Made>>>>,
    /// As many may be in memory: those that are still being sent, the latest one and the next.
    turns: Turns,
}

/// The answer at one time.
struct Made {
    basis: Basis,
    /// When it began to be made.
    begun: Instant,
    is_whole: bool,
    etag: HeaderValue,
    plain: Bytes,
    compressed: OnceLock<Bytes>,
    _turn: Turn,
}

/// What an answer was made of.
struct Basis {
    snapshot: watch::Receiver<Snapshot>,
    enforcement: watch::Receiver<Enforcement>,
    newest: Option<Newest>,
    /// How often what is known of containers had changed.
    ledger: u64,
    at: Timestamp,
    /// When a rule expires next, or the day ends, by which a rule that has expired would be prolonged.
    until: Timestamp,
}

impl Ready {
    /// With so many in memory that are being sent.
    pub(super) fn new(sent_at_once: usize) -> Self {
        Self {
            latest: Arc::default(),
            turns: Turns::new(sent_at_once + 1),
        }
    }

    /// Answers a request with these headers.
    pub(super) async fn answer(
        &self,
        sources: Arc<Sources>,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let made = self.made(sources, Instant::now()).await?;
        let vary = HeaderValue::from_static("accept, accept-encoding");
        let told = [(header::ETAG, made.etag.clone()), (header::VARY, vary)];
        if is_known(headers, &made.etag) {
            return Ok((StatusCode::NOT_MODIFIED, told).into_response());
        }
        let json = HeaderValue::from_static("application/json");
        let mut told = HeaderMap::from_iter(told);
        told.insert(header::CONTENT_TYPE, json);
        let bytes = if takes_gzip(headers) {
            let gzip = HeaderValue::from_static("gzip");
            told.insert(header::CONTENT_ENCODING, gzip);
            let made = made.clone();
            aside(move || made.compressed()).await?
        } else {
            made.plain.clone()
        };
        told.insert(header::CONTENT_LENGTH, bytes.len().into());
        Ok((told, body_of(bytes, made)).into_response())
    }

    /// What is true now, or was after it was asked for. One at a time finds that out; who gave up waiting leaves
    /// it to be used by the next.
    async fn made(&self, sources: Arc<Sources>, asked: Instant) -> Result<Arc<Made>, Problem> {
        let Ok(mut latest) = timeout(WAIT, self.latest.clone().lock_owned()).await else {
            return Err(Problem::busy("too many such requests at once; ask again"));
        };
        if let Some(made) = latest.take() {
            let is_true = made.begun >= asked
                || match sources.decisions.blocks() {
                    true => {
                        let (looked, sources) = (made.clone(), sources.clone());
                        aside(move || looked.basis.is_current(&sources)).await?
                    }
                    false => made.basis.is_current(&sources),
                };
            if is_true {
                *latest = Some(made.clone());
                return Ok(made);
            }
        }
        let turn = self.turns.next().await?;
        aside(move || {
            let made = Arc::new(Made::new(&sources, turn)?);
            // What lacks something may have it the next time.
            *latest = made.is_whole.then(|| made.clone());
            Ok(made)
        })
        .await?
    }
}

impl Made {
    /// Blocks on a file.
    fn new(sources: &Sources, turn: Turn) -> Result<Self, Problem> {
        let begun = Instant::now();
        let (basis, snapshot, enforcement) = Basis::now(sources);
        if !snapshot.connected {
            return Err(Problem::engine_away(&snapshot));
        }
        let listing = listing(sources, &snapshot, &enforcement, basis.at);
        let plain = serde_json::to_vec(&listing);
        let plain = plain.map_err(|error| Problem::internal(error.to_string()))?;
        // Weak: the same for both ways to send it.
        let etag = format!("W/\"{:x}\"", Sha256::digest(&plain));
        let etag = HeaderValue::from_str(&etag);
        Ok(Self {
            basis,
            begun,
            is_whole: !listing.lacks_decisions,
            etag: etag.map_err(|error| Problem::internal(error.to_string()))?,
            plain: plain.into(),
            compressed: OnceLock::new(),
            _turn: turn,
        })
    }

    fn compressed(&self) -> Bytes {
        let compress = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            // Memory takes everything.
            let _ = encoder.write_all(&self.plain);
            Bytes::from(encoder.finish().unwrap_or_default())
        };
        self.compressed.get_or_init(compress).clone()
    }
}

impl Basis {
    /// Blocks on a file. What changes meanwhile makes another answer.
    fn now(sources: &Sources) -> (Self, Snapshot, Enforcement) {
        let newest = sources.decisions.newest();
        let ledger = sources.ledger.changes();
        let mut receivers = (sources.snapshot.clone(), sources.enforcement.clone());
        let snapshot = receivers.0.borrow_and_update().clone();
        let enforcement = receivers.1.borrow_and_update().clone();
        let at = Timestamp::now();
        let days = at.as_second().div_euclid(A_DAY) + 1;
        let midnight = Timestamp::from_second(days * A_DAY).unwrap_or(at);
        let basis = Self {
            snapshot: receivers.0,
            enforcement: receivers.1,
            newest,
            ledger,
            at,
            until: match enforcement.in_force.expiries_after(at) {
                [next, ..] => midnight.min(*next),
                [] => midnight,
            },
        };
        (basis, snapshot, enforcement)
    }

    /// Whether it would be the same now. Blocks on a file where decisions do.
    fn is_current(&self, sources: &Sources) -> bool {
        let now = Timestamp::now();
        // The clock may also be set back.
        (self.at..self.until).contains(&now)
            && matches!(self.snapshot.has_changed(), Ok(false))
            && matches!(self.enforcement.has_changed(), Ok(false))
            && self.ledger == sources.ledger.changes()
            && self.newest == sources.decisions.newest()
    }
}

/// Whether the client has it already, by `If-None-Match`.
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let etag = etag.to_str().map(opaque).unwrap_or_default();
    items(headers, &header::IF_NONE_MATCH).any(|tag| tag.trim() == "*" || opaque(tag) == etag)
}

/// Whether the client takes it compressed.
fn takes_gzip(headers: &HeaderMap) -> bool {
    items(headers, &header::ACCEPT_ENCODING).any(|item| {
        let item = item.to_ascii_lowercase();
        let (name, quality) = item.split_once(';').unwrap_or((&item, ""));
        let quality = quality.trim().strip_prefix("q=").unwrap_or("1");
        matches!(name.trim(), "gzip" | "x-gzip" | "*") && quality.parse() != Ok(0.0)
    })
}

/// The elements of a header that is a list.
fn items<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_takes_and_has_is_read_as_http_writes_it() {
        let headers = |name: header::HeaderName, value: &'static str| {
            HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
        };
        for (value, takes) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; Q=0.0", false),
            ("*", true),
            ("br", false),
            ("", false),
        ] {
            let headers = headers(header::ACCEPT_ENCODING, value);
            assert_eq!(takes_gzip(&headers), takes, "{value}");
        }
        let etag = HeaderValue::from_static("W/\"ab\"");
        for (value, is) in [
            ("W/\"ab\"", true),
            ("\"xy\", \"ab\"", true),
            ("*", true),
            ("\"abc\"", false),
            ("ab", false),
        ] {
            let headers = headers(header::IF_NONE_MATCH, value);
            assert_eq!(is_known(&headers, &etag), is, "{value}");
        }
        assert!(!takes_gzip(&HeaderMap::new()) && !is_known(&HeaderMap::new(), &etag));
    }
}
