//! Saved answers of `GET /containers`, in place of an engine. Unknown fields are passed over, and
//! what is missing or null is not known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Failure;
use super::one_shot::Seen;
use crate::api::HIDDEN;
use crate::container::{Container, ContainerId, State};

/// Reads the containers of a whole fleet, host by host.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<Seen>, Failure> {
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for file in files {
        let (name, host) = read_one(file)
            .map_err(|error| Failure::bad_usage(format!("{}: {error}", file.display())))?;
        let known = hosts.entry(name).or_default();
        // Of what was saved twice the later file tells.
        known
            .hidden
            .retain(|id, _| !host.containers.contains_key(id));
        known.containers.extend(host.containers);
        known.own.extend(host.own);
        known.hidden.extend(host.hidden);
    }
    let seen = hosts.into_iter().map(|(name, host)| Seen {
        host: Some(name.into()),
        containers: host.containers.into_values().collect(),
        own: host.own,
        hidden: host.hidden,
    });
    Ok(seen.collect())
}

#[derive(Default)]
struct Host {
    containers: BTreeMap<ContainerId, Container>,
    own: BTreeSet<ContainerId>,
    hidden: BTreeMap<ContainerId, BTreeSet<String>>,
}

#[derive(Deserialize)]
struct Answer {
    host: Option<String>,
    data: Vec<Value>,
}

fn read_one(file: &Path) -> Result<(String, Host), String> {
    let text = std::fs::read(file).map_err(|error| error.to_string())?;
    let answer: Answer = serde_json::from_slice(&text)
        .map_err(|error| format!("no saved answer of `GET /containers`: {error}"))?;
    let mut host = Host::default();
    for (index, element) in answer.data.iter().enumerate() {
        let (container, hidden) = container(element)
            .ok_or_else(|| format!("number {index} of `data` has no `container_id`"))?;
        let id = container.id.clone();
        if element.get("verdict").and_then(Value::as_str) == Some("self") {
            host.own.insert(id.clone());
        }
        if !hidden.is_empty() {
            host.hidden.insert(id.clone(), hidden);
        }
        host.containers.insert(id, container);
    }
    // A host without a name is kept apart by its file.
    let name = answer.host.unwrap_or_else(|| file.display().to_string());
    Ok((name, host))
}

/// A container, and the keys of its labels whose values are hidden.
fn container(element: &Value) -> Option<(Container, BTreeSet<String>)> {
    let id = field(element, "container_id")?;
    let labels: Option<BTreeMap<String, String>> = field(element, "labels");
    let (hidden, labels): (BTreeMap<_, _>, BTreeMap<_, _>) = labels
        .into_iter()
        .flatten()
        .partition(|(_, value)| value == HIDDEN);
    let state: Option<String> = field(element, "status");
    let container = Container {
        name: field(element, "container_name"),
        image: field(element, "image"),
        image_id: field(element, "image_id"),
        image_names: field(element, "image_names"),
        ancestors: field(element, "ancestors"),
        powers: field(element, "powers"),
        runs_image_command: field(element, "runs_image_command"),
        labels: Some(labels.into()),
        state: State::parse(state.as_deref().unwrap_or_default()),
        status_text: field(element, "status_text"),
        created_at: field(element, "created_at"),
        started_at: field(element, "started_at"),
        ..Container::new(id)
    };
    Some((container, hidden.into_keys().collect()))
}

fn field<T: DeserializeOwned>(element: &Value, name: &str) -> Option<T> {
    T::deserialize(element.get(name)?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_unknown_or_odd_is_passed_over() {
        let id = "ab".repeat(32);
        let odd = json!({
            "container_id": id, "container_name": 5, "image": null, "powers": ["new-power", "gpus"],
            "labels": {"a": "…", "b": "c"}, "status": "levitating", "ports": "x", "more": {},
        });
        let (found, hidden) = container(&odd).expect("a container");
        assert_eq!(
            (found.name, found.image, found.state),
            (None, None, State::Unknown)
        );
        assert_eq!(
            found.labels,
            Some(BTreeMap::from([("b".to_owned(), "c".to_owned())]).into())
        );
        assert_eq!(hidden, ["a".to_owned()].into());
        let powers: Vec<_> = found
            .powers
            .into_iter()
            .flatten()
            .map(|one| one.to_string())
            .collect();
        assert_eq!(powers, ["gpus", "unknown:new-power"]);
        for hopeless in [json!({}), json!(5), json!({"container_id": "abc"})] {
            assert!(container(&hopeless).is_none());
        }
    }
}
