//! `GET /openapi.json`: the API described, as OpenAPI 3.1, from the types of its answers.

use axum::Json;
use axum::extract::State;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

use super::problem::Problem;
use super::{Shared, containers, decisions, health, metrics, stream};

/// What a controller alone does not serve.
const SHOWN: [&str; 4] = ["/", "/allowlist", "/containers", "/containers/{name}"];
/// What never asks for a token.
const OPEN: [&str; 2] = ["/livez", "/readyz"];

/// Read-only: what runs on this host and why it may, what was ended and why. Errors are
/// `application/problem+json` (RFC 9457).
#[derive(OpenApi)]
#[openapi(
    paths(
        containers::index,
        containers::list,
        containers::one,
        decisions::list,
        stream::decisions,
        health::allowlist,
        health::livez,
        health::readyz,
        metrics::metrics,
        describe
    ),
    components(schemas(Problem, crate::record::Record)),
    modifiers(&Everywhere),
    security((), ("bearer" = []), ("basic" = []))
)]
struct Described;

/// What is to be thought of a container: the words of verdicts.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(dead_code)] // stands for the words that filters take
pub(super) enum VerdictWord {
    /// A rule matches.
    Allowed,
    /// No rule allows it.
    Denied,
    /// Nobody can tell yet.
    Unknown,
    /// It is dockwarden's own.
    #[schema(rename = "self")]
    Own,
}

/// What every path has in common.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        for (name, scheme) in [
            ("bearer", HttpAuthScheme::Bearer),
            ("basic", HttpAuthScheme::Basic),
        ] {
            let scheme = SecurityScheme::Http(Http::new(scheme));
            components.add_security_scheme(name, scheme);
        }
        for (path, item) in &mut document.paths.paths {
            let Some(operation) = &mut item.get else {
                continue;
            };
            let responses = &mut operation.responses.responses;
            if !OPEN.contains(&path.as_str()) {
                responses.insert("401".into(), problem("No valid token was sent"));
            }
            responses.insert("421".into(), problem("`Host` is no name of this service"));
            let late = || problem("It took too long, or there are too many such requests at once");
            responses.entry("503".into()).or_insert_with(late);
        }
    }
}

fn problem(description: &str) -> RefOr<utoipa::openapi::Response> {
    use utoipa::openapi::{Content, Ref};
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    let response = ResponseBuilder::new().description(description);
    let response = response.content("application/problem+json", content);
    RefOr::T(response.build())
}

/// This description
///
/// A controller alone describes what it serves alone.
#[utoipa::path(
    get,
    path = "/openapi.json",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(super) async fn describe(State(sources): Shared) -> Json<Document> {
    let mut document = Described::openapi();
    if !sources.role.shows() {
        let paths = &mut document.paths.paths;
        paths.retain(|path, _| !SHOWN.contains(&path.as_str()));
    }
    Json(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allowlist::Verdict;

    #[test]
    fn the_words_of_verdicts_are_all_there() {
        let schema = serde_json::to_value(<VerdictWord as utoipa::PartialSchema>::schema());
        let schema = schema.expect("JSON");
        assert_eq!(schema["enum"], serde_json::json!(Verdict::WORDS));
    }
}
