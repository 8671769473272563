//! `GET /decisions`: what was judged and done, newest first.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::VerdictWord;
use super::problem::Problem;
use super::query::{self, Pairs};
use super::turns::Turns;
use super::{Shared, Sources};
use crate::allowlist::Verdict;
use crate::journal::Filter;
use crate::record::{Outcome, Record};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
const KNOWN: &str = "limit, after, container, verdict, outcome, since";

/// The answer to `GET /decisions`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Found {
    /// Newest first.
    data: Vec<Record>,
}

/// What was judged and done, newest first
#[utoipa::path(
    get,
    path = "/decisions",
    operation_id = "list_decisions",
    params(
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 1000, description = "At most so many; 100 unless told"),
        ("after" = Option<u64>, Query, description = "Only what has a later `seq`"),
        ("container" = Option<String>, Query, min_length = 1, description = "A full id, else a name, else the beginning of an id; who is here goes before who is gone"),
        ("verdict" = Option<VerdictWord>, Query),
        ("outcome" = Option<Outcome>, Query),
        ("since" = Option<Timestamp>, Query, description = "Only what is not older")
    ),
    responses(
        (status = 200, description = "Records of the audit log", body = Found),
        (status = 400, description = "A parameter is unknown or has a bad value", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Several ids begin as `container`", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The audit log can't be read", body = Problem, content_type = "application/problem+json")
    )
)]
pub(super) async fn list(
    State(sources): Shared,
    Extension(turns): Extension<Turns>,
    Pairs(pairs): Pairs,
) -> Result<Response, Problem> {
    let asked = Asked::parse(&pairs)?;
    let answer = move |sources: &Sources| {
        let data = asked.found(sources)?;
        Ok(Json(Found { data }).into_response())
    };
    turns.answer(sources, answer).await
}

/// What is asked for.
struct Asked {
    filter: Filter,
    /// Whom it is about, in the words of who asks.
    container: Option<String>,
    limit: usize,
}

impl Asked {
    fn parse(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let mut asked = Self {
            filter: Filter::default(),
            container: None,
            limit: LIMIT_DEFAULT,
        };
        let filter = &mut asked.filter;
        query::unique(pairs, &[])?;
        for (key, value) in pairs {
            match key.as_str() {
                "limit" => {
                    asked.limit = query::parsed(key, value, "a number from 1 to 1000")?;
                    if !(1..=LIMIT_MAX).contains(&asked.limit) {
                        return Err(query::invalid(key, value, "a number from 1 to 1000"));
                    }
                }
                "after" => filter.after = Some(query::seq(key, value)?),
                "container" if value.is_empty() => {
                    return Err(query::invalid(key, value, "a container's name or id"));
                }
                "container" => asked.container = Some(value.clone()),
                "verdict" if !Verdict::WORDS.contains(&value.as_str()) => {
                    return Err(query::invalid(key, value, &Verdict::WORDS.join(", ")));
                }
                "verdict" => filter.verdict = Some(value.clone()),
                "outcome" => {
                    let words = Outcome::ALL.map(Outcome::as_str).join(", ");
                    filter.outcome = Some(query::word(key, value, &words)?);
                }
                "since" => {
                    let expected = "a time, such as 2027-01-31T00:00:00Z";
                    filter.since = Some(query::parsed(key, value, expected)?);
                }
                _ => return Err(query::unknown(key, KNOWN)),
            }
        }
        Ok(asked)
    }

    /// Who is meant is asked of all that is on record: what else is asked for must not make it another one.
    fn found(mut self, sources: &Sources) -> Result<Vec<Record>, Problem> {
        if let Some(word) = &self.container {
            self.filter.container = sources.look_up(word)?;
            if self.filter.container.is_none() {
                return Ok(Vec::new());
            }
        }
        sources.search(&self.filter, self.limit)
    }
}
