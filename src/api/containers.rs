//! `GET /containers` and `GET /containers/{id or name}`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::VerdictWord;
use super::problem::Problem;
use super::query::{self, Pairs};
use super::turns::Turns;
use super::{Shared, Sources, page};
use crate::allowlist::{Reason, RuleCheck, Verdict};
use crate::container::{
    Ancestor, Container, ContainerId, Port, State as ContainerState, is_grouping_label,
};
use crate::grant::Power;
use crate::journal::Filter as RecordFilter;
use crate::pattern::{Pattern, Reach};
use crate::record::{Outcome, Record, Trigger};
use crate::status::{Enforcement, Snapshot};
use crate::uptime::age;

const KNOWN: &str = "status, verdict, name, image, label";
/// How many containers are named that may be meant.
const NAMED: usize = 10;
/// How many characters a filter's pattern may have.
const LONGEST_PATTERN: usize = 256;
/// How many stars.
const MOST_STARS: usize = 8;
/// How many labels may be asked for.
const MOST_LABELS: usize = 8;
/// What stands in the place of a label's value that is not shown.
pub const HIDDEN: &str = "…";

/// The answer to `GET /containers`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Listing {
    /// The engine's host.
    pub(super) host: Option<String>,
    /// The last change or full list.
    pub(super) as_of: Option<Timestamp>,
    /// How old that is.
    #[serde(skip)]
    pub(super) age: Option<Duration>,
    /// The engine.
    pub(super) engine: EngineView,
    /// Whether denied containers are ended, now.
    pub(super) enforcing: bool,
    /// The containers.
    pub(super) data: Vec<View>,
}

/// What is known of the engine itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EngineView {
    /// Whether it answers.
    pub(super) connected: bool,
    /// Its version.
    pub(super) version: Option<String>,
}

/// One container as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct View {
    /// The full id.
    pub(super) container_id: ContainerId,
    /// Its name.
    pub(super) container_name: Option<String>,
    /// What it was created from, as typed.
    pub(super) image: Option<String>,
    /// The full id of its image.
    pub(super) image_id: Option<String>,
    /// Its state, in the engine's words.
    #[schema(value_type = ContainerState)]
    pub(super) status: &'static str,
    /// The engine's sentence, as of the listing's `as_of`.
    pub(super) status_text: Option<String>,
    /// When it was created.
    pub(super) created_at: Option<Timestamp>,
    /// When it last started.
    pub(super) started_at: Option<Timestamp>,
    /// Its labels; `…` stands in the place of a value that is not shown.
    pub(super) labels: BTreeMap<String, String>,
    /// Its ports, published or only exposed.
    pub(super) ports: Vec<Port>,
    /// What it can do beyond an ordinary container; null: not known yet.
    #[schema(value_type = Option<Vec<String>>)]
    pub(super) powers: Option<BTreeSet<Power>>,
    /// The tags and repo digests of its image when it was first seen; null: not known yet.
    pub(super) image_names: Option<Vec<String>>,
    /// Whether it runs its image's own command; null: not known yet.
    pub(super) runs_image_command: Option<bool>,
    /// The images that its image was built on here, where a rule asks for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ancestors: Option<Vec<Ancestor>>,
    /// Whether it may run.
    #[schema(value_type = VerdictWord)]
    pub(super) verdict: &'static str,
    /// The rule that allows, or nearly does.
    pub(super) rule: Option<String>,
    /// Why it is denied.
    pub(super) reason: Option<Reason>,
    /// A sentence about the denial.
    pub(super) detail: Option<String>,
    /// What to write into the list so that it is allowed, where a rule or a line does that.
    pub(super) edit: Option<String>,
    /// The newest record about it.
    pub(super) last_decision: Option<LastDecision>,
    /// Rule by rule, where one container is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) explanation: Option<Vec<RuleCheck>>,
}

/// A container that is gone, as the audit log knows it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Gone {
    /// The full id.
    container_id: ContainerId,
    /// Its last name.
    container_name: Option<String>,
    /// Always true.
    gone: bool,
    /// What was judged and done, newest first.
    decisions: Vec<Record>,
}

/// One container, here or gone.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Answer {
    /// It is here.
    Here(Box<View>),
    /// It was.
    Gone(Gone),
}

/// A record in short.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LastDecision {
    /// The record's number.
    seq: u64,
    /// When it was written.
    time: Timestamp,
    /// Its verdict.
    verdict: String,
    /// Why it was denied.
    reason: Option<Reason>,
    /// What made us look.
    trigger: Trigger,
    /// What became of it.
    outcome: Option<Outcome>,
    /// From its start to its death, in milliseconds.
    lived_ms: Option<f64>,
}

impl From<&Record> for LastDecision {
    fn from(record: &Record) -> Self {
        Self {
            seq: record.seq,
            time: record.time,
            verdict: record.verdict.clone(),
            reason: record.reason,
            trigger: record.trigger,
            outcome: record.outcome,
            lived_ms: record.lived_ms,
        }
    }
}

/// The page for people
#[utoipa::path(
    get,
    path = "/",
    params(
        ("status" = Option<ContainerState>, Query),
        ("verdict" = Option<VerdictWord>, Query),
        ("name" = Option<String>, Query, max_length = 256, description = "A pattern, such as `web-*`, with at most 8 stars"),
        ("image" = Option<String>, Query, max_length = 256, description = "A pattern, such as `shop/*`, with at most 8 stars"),
        ("label" = Option<Vec<String>>, Query, max_items = 8, description = "`key`, or `key=pattern`, whose pattern has at most 256 characters and 8 stars; looks only at what is shown")
    ),
    responses(
        (status = 200, description = "HTML", body = String, content_type = "text/html"),
        (status = 400, description = "A parameter that can't be", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The same while the engine is out of reach", body = String, content_type = "text/html")
    )
)]
pub(super) async fn index(
    State(sources): Shared,
    Extension(turns): Extension<Turns>,
    Pairs(pairs): Pairs,
) -> Result<Response, Problem> {
    let filter = Filter::parse(&pairs)?;
    turns
        .answer(sources, move |sources| page(sources, &filter))
        .await
}

/// All containers, running or not
///
/// A browser (`Accept: text/html`) gets the page.
#[utoipa::path(
    get,
    path = "/containers",
    params(
        ("status" = Option<ContainerState>, Query),
        ("verdict" = Option<VerdictWord>, Query),
        ("name" = Option<String>, Query, max_length = 256, description = "A pattern, such as `web-*`, with at most 8 stars"),
        ("image" = Option<String>, Query, max_length = 256, description = "A pattern, such as `shop/*`, with at most 8 stars"),
        ("label" = Option<Vec<String>>, Query, max_items = 8, description = "`key`, or `key=pattern`, whose pattern has at most 256 characters and 8 stars; looks only at what is shown")
    ),
    responses(
        (status = 200, description = "Containers, or the page", content((Listing = "application/json"), (String = "text/html"))),
        (status = 400, description = "A parameter that can't be", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The engine is out of reach, or too many ask at once", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(sources): Shared,
    Extension(turns): Extension<Turns>,
    Pairs(pairs): Pairs,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let filter = Filter::parse(&pairs)?;
    let wants_page = wants_page(&headers);
    let answer = move |sources: &Sources| match wants_page {
        true => page(sources, &filter),
        false => json(sources, &filter),
    };
    turns.answer(sources, answer).await
}

fn json(sources: &Sources, filter: &Filter) -> Result<Response, Problem> {
    let snapshot = sources.snapshot.borrow().clone();
    if !snapshot.connected {
        return Err(Problem::engine_away(&snapshot));
    }
    let enforcement = sources.enforcement.borrow().clone();
    let mut listing = listing(sources, &snapshot, &enforcement, Timestamp::now());
    listing.data.retain(|view| filter.passes(view));
    Ok(([(header::VARY, "accept")], Json(listing)).into_response())
}

/// While the engine is away the page shows what was read last, and says so.
fn page(sources: &Sources, filter: &Filter) -> Result<Response, Problem> {
    let now = Timestamp::now();
    let snapshot = sources.snapshot.borrow().clone();
    let enforcement = sources.enforcement.borrow().clone();
    let listing = listing(sources, &snapshot, &enforcement, now);
    let shown = listing.data.iter().filter(|view| filter.passes(view));
    let shown: Vec<_> = shown.collect();
    let status = match listing.engine.connected {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let denials = recent_denials(sources, now);
    let page = page::render(&listing, &shown, &denials, &enforcement, now);
    Ok((status, page).into_response())
}

fn listing(
    sources: &Sources,
    snapshot: &Snapshot,
    enforcement: &Enforcement,
    now: Timestamp,
) -> Listing {
    let last = last_decisions(sources);
    let mut verdicts = sources.verdicts(snapshot, enforcement, now);
    let views = snapshot.containers.values().map(|container| {
        let verdict = verdicts.remove(&container.id).unwrap_or(Verdict::Unknown);
        let show_all_labels = sources.show_all_labels;
        view(
            container,
            &verdict,
            enforcement,
            show_all_labels,
            &last,
            now,
        )
    });
    Listing {
        host: snapshot.host.clone(),
        as_of: snapshot.as_of,
        age: snapshot.read.map(age),
        engine: EngineView {
            connected: snapshot.connected,
            version: snapshot.version.clone(),
        },
        enforcing: enforcement.enforcing,
        data: views.collect(),
    }
}

/// One container, with its verdict rule by rule; one that is gone, from the audit log
#[utoipa::path(
    get,
    path = "/containers/{name}",
    params(("name" = String, Path, min_length = 1, example = "web-1", description = "A name, an id, or the beginning of one")),
    responses(
        (status = 200, description = "It, or what is on record of it", body = Answer),
        (status = 400, description = "A name that is no text", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Several ids begin so", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No container is or was called so", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The audit log can't be read", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The engine is out of reach, or too many ask at once", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn one(
    State(sources): Shared,
    Extension(turns): Extension<Turns>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(name) = name.map_err(|rejection| Problem::bad_request(rejection.body_text()))?;
    let answer = move |sources: &Sources| Ok(Json(here_or_gone(sources, &name)?).into_response());
    turns.answer(sources, answer).await
}

fn here_or_gone(sources: &Sources, name: &str) -> Result<Answer, Problem> {
    let snapshot = sources.snapshot.borrow().clone();
    if !snapshot.connected {
        return Err(Problem::engine_away(&snapshot));
    }
    if let Some(container) = find(&snapshot.containers, name)? {
        let (now, last) = (Timestamp::now(), last_decisions(sources));
        let enforcement = sources.enforcement.borrow().clone();
        let mut verdicts = sources.verdicts(&snapshot, &enforcement, now);
        let verdict = verdicts.remove(&container.id).unwrap_or(Verdict::Unknown);
        let show_all_labels = sources.show_all_labels;
        let view = View {
            explanation: Some(enforcement.in_force.list.explain(container, now)),
            ..view(
                container,
                &verdict,
                &enforcement,
                show_all_labels,
                &last,
                now,
            )
        };
        return Ok(Answer::Here(Box::new(view)));
    }
    let called = |name: &str| RecordFilter {
        container: Some(name.to_owned()),
        ..RecordFilter::default()
    };
    let Some(newest) = sources.search(&called(name), 1)?.pop() else {
        let detail = format!("no container here is or was called `{name}`");
        return Err(Problem::not_found(detail));
    };
    // Others were called so before it.
    let decisions = sources.search(&called(newest.container_id.as_str()), 100)?;
    Ok(Answer::Gone(Gone {
        container_id: newest.container_id,
        container_name: newest.container_name,
        gone: true,
        decisions,
    }))
}

/// By name, by full id, or by the beginning of an id.
fn find<'a>(
    containers: &'a BTreeMap<ContainerId, Arc<Container>>,
    name: &str,
) -> Result<Option<&'a Container>, Problem> {
    let containers = containers.values().map(Arc::as_ref);
    let mut all = containers.clone();
    if let Some(found) = all.find(|container| container.name.as_deref() == Some(name)) {
        return Ok(Some(found));
    }
    let found: Vec<_> = containers
        .filter(|container| container.id.begins_with(name))
        .collect();
    if found.len() < 2 {
        return Ok(found.first().copied());
    }
    let named = found.iter().take(NAMED);
    let ids: Vec<_> = named.map(|container| container.id.as_str()).collect();
    let more = match found.len() - ids.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let ids = ids.join(", ");
    Err(Problem::conflict(format!(
        "`{name}` begins the ids of several containers: {ids}{more}"
    )))
}

fn view(
    container: &Container,
    verdict: &Verdict,
    enforcement: &Enforcement,
    show_all_labels: bool,
    last: &BTreeMap<ContainerId, Arc<Record>>,
    now: Timestamp,
) -> View {
    let is_shown = |key: &str| {
        show_all_labels || is_grouping_label(key) || enforcement.in_force.list.looks_at_label(key)
    };
    let labels = container.labels.iter().flatten().map(|(key, value)| {
        let value = if is_shown(key) { value } else { HIDDEN };
        (key.clone(), value.to_owned())
    });
    View {
        container_id: container.id.clone(),
        container_name: container.name.clone(),
        image: container.image.clone(),
        image_id: container.image_id.clone(),
        status: container.state.as_str(),
        status_text: container.status_text.clone(),
        created_at: container.created_at,
        started_at: container.started_at,
        labels: labels.collect(),
        ports: container.ports.clone(),
        powers: container.powers.clone(),
        image_names: container.image_names.clone(),
        runs_image_command: container.runs_image_command,
        ancestors: container.ancestors.clone(),
        verdict: verdict.as_str(),
        rule: verdict.rule().map(str::to_owned),
        reason: verdict.reason(),
        detail: verdict.detail().map(str::to_owned),
        edit: enforcement.in_force.list.edit(container, verdict, now),
        last_decision: last
            .get(&container.id)
            .map(|record| LastDecision::from(&**record)),
        explanation: None,
    }
}

/// Browsers ask for HTML by name; everything else gets JSON.
fn wants_page(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"))
}

/// An audit log that can't be read costs these alone.
fn last_decisions(sources: &Sources) -> BTreeMap<ContainerId, Arc<Record>> {
    let read = sources.decisions.last_by_container();
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "the audit log can't be read");
        BTreeMap::new()
    })
}

/// Those of the last day.
fn recent_denials(sources: &Sources, now: Timestamp) -> Vec<Record> {
    let filter = RecordFilter {
        verdict: Some("denied".to_owned()),
        since: Some(now - SignedDuration::from_hours(24)),
        ..RecordFilter::default()
    };
    sources.search(&filter, 1_000).unwrap_or_default()
}

/// A pattern that is matched with little work, however long the text is.
fn pattern(key: &str, text: &str) -> Result<Pattern, Problem> {
    let stars = text.matches('*').count();
    if text.chars().count() > LONGEST_PATTERN || stars > MOST_STARS {
        return Err(Problem::bad_request(format!(
            "`{key}`: a pattern has at most {LONGEST_PATTERN} characters and {MOST_STARS} stars"
        )));
    }
    Ok(Pattern::new(text, Reach::Everything))
}

/// What of the list is asked for. Looks only at what is shown: a hidden label can't be guessed.
#[derive(Default)]
struct Filter {
    status: Option<ContainerState>,
    verdict: Option<String>,
    name: Option<Pattern>,
    image: Option<Pattern>,
    labels: Vec<(String, Pattern)>,
}

impl Filter {
    fn parse(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let mut filter = Self::default();
        query::unique(pairs, &["label"])?;
        for (key, value) in pairs {
            match key.as_str() {
                "status" => {
                    let state = ContainerState::parse(value);
                    if state.as_str() != value {
                        let words = ContainerState::ALL.map(ContainerState::as_str).join(", ");
                        return Err(query::invalid(key, value, &words));
                    }
                    filter.status = Some(state);
                }
                "verdict" if !Verdict::WORDS.contains(&value.as_str()) => {
                    return Err(query::invalid(key, value, &Verdict::WORDS.join(", ")));
                }
                "verdict" => filter.verdict = Some(value.clone()),
                "name" => filter.name = Some(pattern(key, value)?),
                "image" => filter.image = Some(pattern(key, value)?),
                "label" if filter.labels.len() == MOST_LABELS => {
                    let detail = format!("`label` is given more than {MOST_LABELS} times");
                    return Err(Problem::bad_request(detail));
                }
                "label" => {
                    let (label, value) = value.split_once('=').unwrap_or((value, "*"));
                    filter.labels.push((label.to_owned(), pattern(key, value)?));
                }
                _ => return Err(query::unknown(key, KNOWN)),
            }
        }
        Ok(filter)
    }

    fn passes(&self, view: &View) -> bool {
        let fits = |pattern: &Option<Pattern>, text: &Option<String>| {
            pattern
                .as_ref()
                .is_none_or(|pattern| text.as_deref().is_some_and(|text| pattern.matches(text)))
        };
        self.status
            .is_none_or(|status| view.status == status.as_str())
            && self
                .verdict
                .as_deref()
                .is_none_or(|verdict| view.verdict == verdict)
            && fits(&self.name, &view.container_name)
            && fits(&self.image, &view.image)
            && self.labels.iter().all(|(label, pattern)| {
                view.labels
                    .get(label)
                    .is_some_and(|value| pattern.matches(value))
            })
    }
}
