//! The status API: what runs here and why it may, read-only, from what is known already. A request
//! never reaches the engine.

mod access;
mod containers;
mod decisions;
mod filter;
mod health;
mod listing;
mod metrics;
mod openapi;
mod page;
mod problem;
mod query;
mod ready;
mod stream;
mod turns;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

use crate::allowlist::Verdict;
use crate::container::{ContainerId, LookUp, Who};
use crate::journal::{Decisions, Filter};
use crate::metrics::Metrics;
use crate::record::Record;
use crate::state::Ledger;
use crate::status::{Enforcement, Role, Snapshot};
pub use access::Access;
pub use listing::HIDDEN;
use problem::Problem;
use ready::Ready;
use stream::Streams;
use turns::Turns;

/// How many answers about everything are made and sent at once.
const LARGE: usize = 4;

/// What the handlers answer from.
pub struct Sources {
    /// Which service this is.
    pub role: Role,
    /// All containers.
    pub snapshot: watch::Receiver<Snapshot>,
    /// The list in force and what is done with it.
    pub enforcement: watch::Receiver<Enforcement>,
    /// What was decided.
    pub decisions: Decisions,
    /// What the one that enforces knows of containers.
    pub ledger: Ledger,
    /// All metrics.
    pub metrics: Metrics,
    /// The file that the list is read from.
    pub allowlist: PathBuf,
    /// How often everything is listed.
    pub resync: Duration,
    /// Whether the values of all labels are shown.
    pub show_all_labels: bool,
    /// Ends the streams when the service ends.
    pub shutdown: CancellationToken,
}

impl Sources {
    /// The verdicts on all containers, as the one that enforces sees them.
    fn verdicts(
        &self,
        snapshot: &Snapshot,
        enforcement: &Enforcement,
        now: Timestamp,
    ) -> BTreeMap<ContainerId, Verdict> {
        let containers = snapshot.containers.values().map(Arc::as_ref);
        let mut verdicts = enforcement.judge_all(containers, now);
        // What one knew that is silent now may be out of date.
        if enforcement.hindrance.is_none() {
            let live = verdicts.iter_mut().filter(|(id, _)| {
                let container = snapshot.containers.get(*id);
                container.is_some_and(|container| container.state.is_live())
            });
            self.ledger.correct(live, &enforcement.in_force.hash);
        }
        verdicts
    }

    /// Reads records, which may block on a file.
    fn search(&self, filter: &Filter, limit: usize) -> Result<Vec<Record>, Problem> {
        let found = self.decisions.search(filter, limit);
        found.map_err(|error| Problem::unreadable_log(&error))
    }

    /// Who is meant by a word, of those that are here and those on record. May block on a file.
    fn look_up(&self, word: &str) -> Result<Option<Who>, Problem> {
        let here = self.snapshot.borrow().containers.clone();
        let here = here.values().map(|container| container.calls());
        let mut look_up = LookUp::among(word, here);
        if !look_up.is_certain() {
            let seen = self.decisions.look_up(&mut look_up);
            seen.map_err(|error| Problem::unreadable_log(&error))?;
        }
        let found = look_up.found();
        found.map_err(|several| Problem::conflict(several.to_string()))
    }
}

type Shared = State<Arc<Sources>>;

/// All routes of a service, for those whom `access` lets in.
pub fn router(sources: Sources, access: Access) -> Router {
    let sources = Arc::new(sources);
    let mut router = Router::new()
        .route(
            "/metrics",
            // Gauges are reset while they are counted anew.
            get(metrics::metrics).layer(Extension(Turns::new(1))),
        )
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/openapi.json", get(openapi::describe))
        .route("/decisions", get(decisions::list))
        .route(
            "/decisions/stream",
            get(stream::decisions).layer(Extension(Streams::default())),
        );
    if sources.role.shows() {
        router = router
            .route("/", get(containers::index))
            .route(
                "/containers",
                get(containers::list).layer(Extension(Ready::new(LARGE))),
            )
            .route("/containers/{name}", get(containers::one))
            .route("/allowlist", get(health::allowlist));
    }
    let router = router
        .layer(Extension(Turns::new(LARGE)))
        // Neither streams, which go out as they come, nor what is compressed already.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .fallback(async || Problem::not_found("there is nothing at this path"))
        .method_not_allowed_fallback(async || Problem::method_not_allowed());
    access::guard(router, access)
        .layer(middleware::from_fn_with_state(sources.clone(), measure))
        .with_state(sources)
}

/// Observes how long each request took, by route and not by path.
async fn measure(State(sources): Shared, request: Request, next: Next) -> Response {
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        _ => "other",
    };
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let begun = tokio::time::Instant::now();
    let response = next.run(request).await;
    sources
        .metrics
        .http_request_duration
        .with_label_values(&[method, &route, response.status().as_str()])
        .observe(begun.elapsed().as_secs_f64());
    response
}
