//! The engine's JSON in our words. Every field is optional and of any type: a word that this
//! version does not know costs that field alone, never the list or the stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::make::ListedImage;
use super::powers::{self, EngineDefaults};
use crate::container::{Container, ContainerId, Port, State};
use crate::engine::{
    Change, ChangeKind, EngineInfo, Exec, ImageFacts, Inspection, Message, RestartPolicy,
};

/// The longest that all labels of a container may be, in bytes.
const LABELS_MAX: usize = 1024 * 1024;

/// An element of `GET /containers/json`. `None` without a full id.
pub(super) fn listed(element: &Value) -> Option<Container> {
    let mut container = Container::new(ContainerId::parse(element.get("Id")?.as_str()?)?);
    let names = element.get("Names");
    container.name = names
        .and_then(Value::as_array)
        .and_then(|names| names.iter().filter_map(Value::as_str).find_map(own_name));
    container.name_is_open = names.is_some_and(|names| !names.is_array() && !names.is_null());
    container.image = text(element, "Image");
    container.image_id = text(element, "ImageID");
    container.labels = element.get("Labels").and_then(labels).map(Arc::new);
    container.state = State::parse(element.get("State").and_then(Value::as_str).unwrap_or(""));
    container.status_text = text(element, "Status");
    container.created_at = element
        .get("Created")
        .and_then(Value::as_i64)
        .and_then(|seconds| Timestamp::from_second(seconds).ok());
    container.ports = element
        .get("Ports")
        .and_then(Value::as_array)
        .map(|ports| ports.iter().filter_map(port).collect())
        .unwrap_or_default();
    container.network_mode = element
        .get("HostConfig")
        .and_then(|config| text(config, "NetworkMode"));
    Some(container)
}

/// A container's own name has one slash; `--link` adds `/other/alias` to its target's names.
fn own_name(name: &str) -> Option<String> {
    let name = name.strip_prefix('/').unwrap_or(name);
    (!name.is_empty() && !name.contains('/')).then(|| name.to_owned())
}

/// Labels; `null` is what the engine says of none. A set that is too large to be read, or to be kept for each of
/// thousands, counts as absent as well. A label whose value is no text is left out.
fn labels(value: &Value) -> Option<BTreeMap<String, String>> {
    let labels: BTreeMap<_, _> = value
        .as_object()?
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    let length: usize = labels
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    (length <= LABELS_MAX).then_some(labels)
}

fn port(value: &Value) -> Option<Port> {
    let number = |key| {
        value
            .get(key)
            .and_then(Value::as_u64)
            .and_then(|number| u16::try_from(number).ok())
    };
    Some(Port {
        ip: text(value, "IP").filter(|ip| !ip.is_empty()),
        private_port: number("PrivatePort")?,
        public_port: number("PublicPort"),
        protocol: text(value, "Type").unwrap_or_default(),
    })
}

/// The answer to `GET /containers/{id}/json`.
pub(super) fn inspected(answer: &Value, defaults: &EngineDefaults) -> Inspection {
    let state = answer.get("State");
    let time = |key| state.and_then(|state| instant(state, key));
    let config = |key| answer.get("Config").and_then(|config| text(config, key));
    let found = powers::read(answer, defaults);
    Inspection {
        name: text(answer, "Name").and_then(|name| own_name(&name)),
        image: config("Image"),
        created_at: instant(answer, "Created"),
        started_at: time("StartedAt"),
        finished_at: time("FinishedAt"),
        pid: state.and_then(pid),
        exit_code: state.and_then(exit_code),
        restart_policy: answer
            .pointer("/HostConfig/RestartPolicy")
            .and_then(restart_policy),
        powers: found.powers,
        joins: found.joins,
        local_volumes: found.local_volumes,
        unknown_fields: found.unknown_fields,
        command: text(answer, "Path")
            .filter(|path| !path.is_empty())
            .into_iter()
            .chain(arguments(answer, "Args"))
            .collect(),
        user: config("User").unwrap_or_default(),
        execs: texts(answer, "ExecIDs").into_iter().collect(),
    }
}

fn pid(state: &Value) -> Option<u32> {
    let pid = state.get("Pid")?.as_u64()?;
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// An engine that was away when a process ended says 255.
fn exit_code(state: &Value) -> Option<i64> {
    let is_over = state.get("Running").and_then(Value::as_bool) == Some(false);
    let code = state.get("ExitCode").and_then(Value::as_i64);
    code.filter(|code| is_over && *code != 255)
}

fn restart_policy(policy: &Value) -> Option<RestartPolicy> {
    let most = policy.get("MaximumRetryCount").and_then(Value::as_u64);
    match text(policy, "Name")?.parse() {
        Ok(RestartPolicy::OnFailure(_)) => Some(RestartPolicy::OnFailure(
            most.and_then(|most| most.try_into().ok()).unwrap_or(0),
        )),
        policy => policy.ok(),
    }
}

/// A time; the engine says "never" as the year 1.
fn instant(value: &Value, key: &str) -> Option<Timestamp> {
    let time: Timestamp = value.get(key)?.as_str()?.parse().ok()?;
    (time > Timestamp::UNIX_EPOCH).then_some(time)
}

/// The answer to `GET /images/{id}/json`.
pub(super) fn image(answer: &Value) -> ImageFacts {
    let config = answer.get("Config");
    let of_config = |key| config.map(|config| texts(config, key)).unwrap_or_default();
    let names = texts(answer, "RepoTags").into_iter();
    ImageFacts {
        id: text(answer, "Id"),
        names: names.chain(texts(answer, "RepoDigests")).collect(),
        parent: text(answer, "Parent").filter(|parent| !parent.is_empty()),
        command: config.map(|_| [of_config("Entrypoint"), of_config("Cmd")].concat()),
        health_checks: config.map(health_checks).unwrap_or_default(),
    }
}

/// An element of `GET /images/json`. `None` without an id.
pub(super) fn listed_image(element: &Value) -> Option<ListedImage> {
    Some(ListedImage {
        id: text(element, "Id")?,
        tags: texts(element, "RepoTags"),
        labels: element.get("Labels").and_then(labels).unwrap_or_default(),
    })
}

/// What an engine may execute for the health check of an image's configuration. A container does not
/// take over its image's shell on every engine.
fn health_checks(config: &Value) -> Vec<Vec<String>> {
    let test = config.get("Healthcheck").map(|check| texts(check, "Test"));
    let test = test.unwrap_or_default();
    let Some((kind, rest)) = test.split_first() else {
        return Vec::new();
    };
    let shell = texts(config, "Shell");
    let default = ["/bin/sh", "-c"].map(str::to_owned);
    match kind.as_str() {
        "CMD" => vec![rest.to_vec()],
        "CMD-SHELL" if shell.is_empty() => vec![[&default, rest].concat()],
        "CMD-SHELL" => vec![[&default, rest].concat(), [&shell, rest].concat()],
        _ => Vec::new(),
    }
}

/// The answer to `GET /exec/{id}/json`.
pub(super) fn exec(answer: &Value) -> Exec {
    let process = answer.get("ProcessConfig").unwrap_or(&Value::Null);
    Exec {
        container_id: text(answer, "ContainerID").unwrap_or_default(),
        command: text(process, "entrypoint")
            .into_iter()
            .chain(arguments(process, "arguments"))
            .collect(),
        user: text(process, "user").unwrap_or_default(),
        privileged: process.get("privileged").and_then(Value::as_bool) != Some(false),
        has_started: answer.get("Running").and_then(Value::as_bool) != Some(false)
            || answer.get("ExitCode").is_some_and(Value::is_number),
    }
}

/// What is ordinary on the engine that gave this answer to `GET /info`.
pub(super) fn defaults(answer: &Value, socket: Option<String>) -> EngineDefaults {
    // A filtering proxy may hide them, and then nothing is held against a container for that.
    let options = texts(answer, "SecurityOptions");
    EngineDefaults {
        host_cgroupns: !options.iter().any(|option| option == "name=cgroupns"),
        runtime: text(answer, "DefaultRuntime"),
        socket,
    }
}

/// The answer to `GET /info`, or to `GET /version`.
pub(super) fn info(answer: &Value) -> EngineInfo {
    let version = text(answer, "ServerVersion").or_else(|| text(answer, "Version"));
    EngineInfo {
        version: version.unwrap_or_default(),
        host: text(answer, "Name").unwrap_or_default(),
        time: text(answer, "SystemTime").and_then(|time| time.parse().ok()),
        has_same_pids: false,
    }
}

/// The last column of every row in the answer to `GET /containers/{id}/top`.
pub(super) fn command_names(answer: &Value) -> Vec<String> {
    answer
        .get("Processes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|row| Some(row.as_array()?.last()?.as_str()?.to_owned()))
        .collect()
}

/// An object of the event stream; `None` where it is about neither a container nor an image's name.
pub(super) fn message(event: &Value) -> Option<Message> {
    const RENAMING: [&str; 7] = ["tag", "untag", "pull", "load", "import", "delete", "remove"];
    match event.get("Type").and_then(Value::as_str) {
        Some("container") => Some(change(event).map_or(Message::Unreadable, Message::Change)),
        Some("image") => {
            let action = event.get("Action").and_then(Value::as_str)?;
            RENAMING.contains(&action).then_some(Message::Images)
        }
        Some(_) => None,
        None => Some(Message::Unreadable),
    }
}

fn change(event: &Value) -> Option<Change> {
    let id = event.pointer("/Actor/ID")?.as_str()?;
    let nanoseconds = event.get("timeNano").and_then(Value::as_i64);
    let time = match nanoseconds {
        Some(nanoseconds) => Timestamp::from_nanosecond(nanoseconds.into()).ok()?,
        None => Timestamp::from_second(event.get("time")?.as_i64()?).ok()?,
    };
    Some(Change {
        id: ContainerId::parse(id)?,
        kind: change_kind(event.get("Action")?.as_str()?),
        time,
        exec: event
            .pointer("/Actor/Attributes/execID")
            .and_then(Value::as_str)
            .map(Into::into),
        exit_code: event
            .pointer("/Actor/Attributes")
            .and_then(|attributes| attributes.get(Change::EXIT_CODE)?.as_str()?.parse().ok()),
    })
}

fn change_kind(action: &str) -> ChangeKind {
    use ChangeKind::{
        Create, Destroy, Die, ExecStart, Kill, Other, Pause, Rename, Restart, Start, Stop, Unpause,
        Update,
    };
    match action {
        // Podman's words for the same.
        "died" => return Die,
        "remove" => return Destroy,
        "exec" => return ExecStart,
        // What is executed is part of the word.
        action if action.starts_with("exec_start:") => return ExecStart,
        _ => {}
    }
    [
        Create, Start, Restart, Unpause, Rename, Update, ExecStart, Pause, Die, Destroy, Stop, Kill,
    ]
    .into_iter()
    .find(|kind| kind.as_str() == action)
    .unwrap_or(Other)
}

fn text(value: &Value, key: &str) -> Option<String> {
    Some(value.get(key)?.as_str()?.to_owned())
}

/// The arguments of a program. Too many to be read are none that anything could be compared with.
fn arguments(value: &Value, key: &str) -> Vec<String> {
    match value.get(key) {
        None | Some(Value::Null | Value::Array(_)) => texts(value, key),
        Some(_) => vec!["\0".to_owned()],
    }
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    let texts = value.get(key).and_then(Value::as_array);
    let texts = texts.into_iter().flatten();
    texts
        .filter_map(|text| Some(text.as_str()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_that_are_too_much_to_be_kept_count_as_absent() {
        let half = "x".repeat(LABELS_MAX / 2 - 1);
        let kept = json!({"a": half, "b": half});
        assert_eq!(labels(&kept).map(|labels| labels.len()), Some(2));
        assert_eq!(labels(&json!({"a": half, "b": half, "c": ""})), None);
    }

    #[test]
    fn a_listed_container_is_read_whatever_its_fields_hold() {
        let id = "ab".repeat(32);
        let full = json!({
            "Id": id, "Names": ["/other/alias", "/web-1"], "Image": "nginx", "ImageID": "sha256:1a",
            "Created": 1_700_000_000, "State": "running", "Status": "Up 3 minutes",
            "Labels": {"a": "b", "odd": 5}, "HostConfig": {"NetworkMode": "container:x"},
            "Ports": [{"PrivatePort": 81, "Type": "0"}, {"PrivatePort": 99_999, "Type": "tcp"}],
        });
        let container = listed(&full).expect("a container");
        assert_eq!(container.name.as_deref(), Some("web-1"));
        assert_eq!(
            container.labels,
            Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]).into())
        );
        assert_eq!(container.ports.len(), 1);
        assert_eq!(container.ports[0].protocol, "0");
        assert_eq!(container.state, State::Running);

        let odd =
            json!({"Id": id, "Names": 5, "Image": [], "Labels": "x", "State": 7, "Ports": {}});
        let container = listed(&odd).expect("a container");
        let mut unknown = Container::new(container.id.clone());
        unknown.name_is_open = true;
        assert_eq!(container, unknown);
        let unnamed = listed(&json!({"Id": id, "Names": null})).expect("a container");
        assert!(!unnamed.name_is_open);
        for hopeless in [json!({}), json!(5), json!({"Id": "abc"}), json!({"Id": 5})] {
            assert_eq!(listed(&hopeless), None);
        }
    }

    #[test]
    fn events_are_believed_in_their_id_kind_and_time_alone() {
        let id = "ab".repeat(32);
        let event = |kind: &str, action: &str| json!({"Type": kind, "Action": action, "Actor": {"ID": id, "Attributes": {"image": "forged"}}, "timeNano": 1_700_000_000_000_000_001_i64});
        let Some(Message::Change(change)) = message(&event("container", "start")) else {
            panic!("a change");
        };
        assert_eq!(change.kind, ChangeKind::Start);
        assert_eq!(change.time.as_nanosecond(), 1_700_000_000_000_000_001);
        for (action, kind) in [
            ("died", ChangeKind::Die),
            ("remove", ChangeKind::Destroy),
            ("exec_start: x", ChangeKind::ExecStart),
            ("exec_create: x", ChangeKind::Other),
        ] {
            let Some(Message::Change(change)) = message(&event("container", action)) else {
                panic!("a change");
            };
            assert_eq!(change.kind, kind);
        }
        assert_eq!(message(&event("pod", "start")), None);
        assert_eq!(message(&json!({})), Some(Message::Unreadable));
        assert_eq!(
            message(&json!({"Type": "container"})),
            Some(Message::Unreadable)
        );
    }

    #[test]
    fn a_health_check_is_executed_by_either_shell() {
        let table = [
            (json!({}), json!([])),
            (json!({"Healthcheck": {"Test": ["NONE"]}}), json!([])),
            (
                json!({"Healthcheck": {"Test": ["CMD", "/a", "b"]}, "Shell": ["/s"]}),
                json!([["/a", "b"]]),
            ),
            (
                json!({"Healthcheck": {"Test": ["CMD-SHELL", "x"]}, "Shell": null}),
                json!([["/bin/sh", "-c", "x"]]),
            ),
            (
                json!({"Healthcheck": {"Test": ["CMD-SHELL", "x"]}, "Shell": ["/s", "-e"]}),
                json!([["/bin/sh", "-c", "x"], ["/s", "-e", "x"]]),
            ),
        ];
        for (config, checks) in table {
            assert_eq!(json!(health_checks(&config)), checks, "{config}");
        }
    }

    #[test]
    fn arguments_that_are_left_out_are_not_none() {
        let container = json!({"Path": "/check", "Args": true});
        let inspection = inspected(&container, &EngineDefaults::default());
        assert_ne!(inspection.command, ["/check"]);
        let process = |arguments: Value| json!({"ProcessConfig": {"entrypoint": "/check", "arguments": arguments}});
        assert_ne!(exec(&process(json!(true))).command, ["/check"]);
        assert_eq!(exec(&process(json!(null))).command, ["/check"]);
        assert_eq!(exec(&process(json!(["a"]))).command, ["/check", "a"]);
    }

    #[test]
    fn never_is_no_time() {
        let inspection = inspected(
            &json!({
                "Config": {"Image": "nginx"},
                "State": {"StartedAt": "2026-11-21T04:31:00.123456789Z", "FinishedAt": "0001-01-01T00:00:00Z"},
                "HostConfig": {"RestartPolicy": {"Name": "always"}},
            }),
            &EngineDefaults::default(),
        );
        assert!(inspection.started_at.is_some() && inspection.finished_at.is_none());
        assert_eq!(inspection.restart_policy, Some(RestartPolicy::Always));
        let nothing = inspected(&json!(5), &EngineDefaults::default());
        assert_eq!(nothing.powers.len(), 1, "what can't be seen is not granted");
    }
}
