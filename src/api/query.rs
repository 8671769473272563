//! Query strings, read strictly: a filter that is misspelt must not look like one that passed
//! everything.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::de::value::{Error, StrDeserializer};

use super::problem::Problem;

/// The pairs of a query string, in order.
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Query::from_request_parts(parts, state)
            .await
            .map(|Query(pairs)| Self(pairs))
            .map_err(|rejection| Problem::bad_request(rejection.body_text()))
    }
}

/// Refuses keys that are given twice, where only one value can count.
pub(super) fn unique(pairs: &[(String, String)], repeatable: &[&str]) -> Result<(), Problem> {
    let mut seen = std::collections::HashSet::new();
    for (key, _) in pairs {
        if !repeatable.contains(&key.as_str()) && !seen.insert(key) {
            return Err(Problem::bad_request(format!("`{key}` is given twice")));
        }
    }
    Ok(())
}

/// A key that the path does not know.
pub(super) fn unknown(key: &str, known: &str) -> Problem {
    Problem::bad_request(format!("unknown parameter `{key}`; known here: {known}"))
}

/// A value that its key can't have.
pub(super) fn invalid(key: &str, value: &str, expected: &str) -> Problem {
    Problem::bad_request(format!("`{key}={value}`: expected {expected}"))
}

/// Parses a value.
pub(super) fn parsed<T: FromStr>(key: &str, value: &str, expected: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| invalid(key, value, expected))
}

/// Parses a record's `seq`: an int64 that is not negative, as it is described.
pub(super) fn seq(key: &str, value: &str) -> Result<u64, Problem> {
    let seq = value.parse::<u64>().ok();
    seq.filter(|seq| i64::try_from(*seq).is_ok())
        .ok_or_else(|| invalid(key, value, "a record's `seq`"))
}

/// Parses one of a set of words.
pub(super) fn word<T: DeserializeOwned>(
    key: &str,
    value: &str,
    expected: &str,
) -> Result<T, Problem> {
    T::deserialize(StrDeserializer::<Error>::new(value)).map_err(|_| invalid(key, value, expected))
}
