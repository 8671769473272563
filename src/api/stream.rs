//! `GET /decisions/stream`: decisions as they are put on record, as server-sent events. An event's id
//! is its record's `seq`: who comes back with it as `Last-Event-ID` misses none that is still on record.
//! Without an audit log's file those are the last 1,000.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Shared;
use super::access::Pass;
use super::problem::Problem;
use super::query::{self, Pairs};
use crate::journal::Feed;
use crate::record::Record;

/// How many listen at once.
const MOST: usize = 32;
/// How soon a listener is to come back.
const RETRY: Duration = Duration::from_secs(1);
/// How long a stream may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Room for those who listen.
#[derive(Clone)]
pub(super) struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MOST)))
    }
}

/// What is judged and done, live, as server-sent events
///
/// An event is a record, its id the record's `seq`.
#[utoipa::path(
    get,
    path = "/decisions/stream",
    params(("Last-Event-ID" = Option<u64>, Header, description = "What was told last: all after it follows that is still on record")),
    responses(
        (status = 200, description = "Events, of which `data` is a record as JSON", body = String, content_type = "text/event-stream"),
        (status = 400, description = "A header or parameter is unknown or has a bad value", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The audit log can't be read", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "32 clients listen already, and no more may", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn decisions(
    State(sources): Shared,
    Extension(Streams(slots)): Extension<Streams>,
    Extension(pass): Extension<Pass>,
    Pairs(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some((key, _)) = pairs.first() {
        return Err(query::unknown(key, "none"));
    }
    let after = last_event_id(&headers)?;
    let slot = slots
        .try_acquire_owned()
        .map_err(|_| Problem::busy("32 clients listen already, and no more may"))?;
    let feed = Feed::open(sources.decisions.clone(), after)
        .await
        .map_err(|error| Problem::unreadable_log(&error))?;
    let begin = stream::once(async { Ok(Event::default().retry(RETRY)) });
    let events = begin.chain(events(feed, slot));
    let events = events
        .take_until(sources.shutdown.clone().cancelled_owned())
        .take_until(Box::pin(pass.revoked()));
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(SILENCE));
    Ok(([(header::CACHE_CONTROL, "no-store")], sse).into_response())
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    query::seq("Last-Event-ID", text).map(Some)
}

fn events(feed: Feed, slot: OwnedSemaphorePermit) -> impl Stream<Item = Result<Event, Infallible>> {
    let batches = stream::unfold((feed, slot), async |(mut feed, slot)| {
        match feed.next().await {
            Ok(records) => Some((records, (feed, slot))),
            Err(error) => {
                tracing::warn!(%error, "a stream ends: the audit log can't be read");
                None
            }
        }
    });
    batches.flat_map(|records| stream::iter(records).map(|record| Ok(event(&record))))
}

fn event(record: &Record) -> Event {
    let event = Event::default().id(record.seq.to_string());
    // A record is made of strings, numbers and maps with string keys: it always serialises.
    let text = serde_json::to_string(record).unwrap_or_default();
    event.event("decision").data(text)
}
