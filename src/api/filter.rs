//! `?status=…&name=…`: which containers of a listing are asked for.

use utoipa::IntoParams;

use super::listing::View;
use super::openapi::VerdictWord;
use super::problem::Problem;
use super::query;
use crate::allowlist::Verdict;
use crate::container::State;
use crate::pattern::{Pattern, Reach};

/// The parameters, as they are described.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(
    dead_code,
    reason = "they are read by `Filter::parse`, which tells more of what is wrong"
)]
pub(super) struct Parameters {
    status: Option<State>,
    verdict: Option<VerdictWord>,
    /// A pattern, such as `web-*`, with at most 8 stars
    #[param(max_length = 256)]
    name: Option<String>,
    /// A pattern, such as `shop/*`, with at most 8 stars
    #[param(max_length = 256)]
    image: Option<String>,
    /// `key`, or `key=pattern`, with at most 256 characters and 8 stars; looks only at what is shown
    #[param(max_items = 8)]
    label: Option<Vec<String>>,
}

const KNOWN: &str = "status, verdict, name, image, label";
/// How many characters a pattern may have.
const LONGEST_PATTERN: usize = 256;
/// How many stars.
const MOST_STARS: usize = 8;
/// How many labels may be asked for.
const MOST_LABELS: usize = 8;

/// What of the list is asked for. Looks only at what is shown: a hidden label can't be guessed.
#[derive(Default)]
pub(super) struct Filter {
    status: Option<State>,
    verdict: Option<String>,
    name: Option<Pattern>,
    image: Option<Pattern>,
    labels: Vec<(String, Pattern)>,
}

impl Filter {
    /// # Errors
    /// When a parameter is unknown, or its value can't be.
    pub(super) fn parse(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let mut filter = Self::default();
        query::unique(pairs, &["label"])?;
        for (key, value) in pairs {
            match key.as_str() {
                "status" => {
                    let state = State::parse(value);
                    if state.as_str() != value {
                        let words = State::ALL.map(State::as_str).join(", ");
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

    pub(super) fn passes(&self, view: &View) -> bool {
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
