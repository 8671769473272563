//! Which field of the engine's container gives which power. This table is the one place where that
//! is known.
//!
//! A value that is not known here is a power that only `all` grants; a *field* that is not known (a
//! newer engine's) is counted and never decides.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::grant::{Power, is_under, normal_path};

/// What is ordinary on one engine and a power on another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct EngineDefaults {
    /// Every container has the host's view of cgroups by default, as on cgroup v1.
    pub(super) host_cgroupns: bool,
    /// The runtime of containers that ask for none.
    pub(super) runtime: Option<String>,
    /// The path of the engine's own socket.
    pub(super) socket: Option<String>,
}

/// What a container's configuration gives it.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) powers: BTreeSet<Power>,
    /// The containers whose namespaces it joins.
    pub(super) joins: BTreeSet<String>,
    pub(super) local_volumes: BTreeSet<String>,
    pub(super) unknown_fields: usize,
}

type Reader = fn(&Value, &EngineDefaults, &mut Found);

/// A field of `HostConfig`, and what its value gives.
const HOST_CONFIG: &[(&str, Reader)] = &[
    ("Privileged", |value, _, found| {
        found.when(value.as_bool() != Some(false), Power::Privileged);
    }),
    ("NetworkMode", |value, _, found| match text(value) {
        "host" => found.add(Power::HostNetwork),
        // Any other word is a network's name.
        mode => found.join(mode),
    }),
    ("PidMode", |value, _, found| {
        found.namespace("PidMode", value, &["", "private"], Power::HostPid);
    }),
    ("IpcMode", |value, _, found| {
        let ordinary = ["", "private", "shareable", "none"];
        found.namespace("IpcMode", value, &ordinary, Power::HostIpc);
    }),
    ("UTSMode", |value, _, found| {
        found.namespace("UTSMode", value, &["", "private"], Power::HostUts);
    }),
    ("UsernsMode", |value, _, found| {
        found.namespace("UsernsMode", value, &["", "private"], Power::HostUserns);
    }),
    ("CgroupnsMode", |value, defaults, found| {
        if !(defaults.host_cgroupns && text(value) == "host") {
            found.namespace("CgroupnsMode", value, &["", "private"], Power::HostCgroupns);
        }
    }),
    ("Cgroup", |value, _, found| match text(value) {
        "" => {}
        mode if mode.starts_with("container:") => found.join(mode),
        mode => found.unknown("Cgroup", mode),
    }),
    ("CapAdd", |value, _, found| {
        found.each("CapAdd", value, Power::capability);
    }),
    ("Devices", |value, _, found| {
        for device in elements(value) {
            match device.get("PathOnHost").and_then(Value::as_str) {
                Some(path) => found.add(Power::device(path)),
                None => found.unknown("Devices", &device.to_string()),
            }
        }
    }),
    ("DeviceCgroupRules", |value, _, found| {
        found.when(!is_empty(value), Power::DeviceRule);
    }),
    ("DeviceRequests", |value, _, found| {
        for request in elements(value) {
            if request.get("Driver").and_then(Value::as_str) == Some("cdi") {
                let ids = request.get("DeviceIDs").unwrap_or(&Value::Null);
                found.each("DeviceIDs", ids, Power::device);
            } else {
                found.add(Power::Gpus);
            }
        }
    }),
    ("Runtime", |value, defaults, found| {
        // Where the default is a stricter sandbox, even Docker's own runtime is a power.
        let default = defaults.runtime.as_deref().unwrap_or(RUNC);
        let is_runc = |runtime| runtime == RUNC || runtime == "io.containerd.runc.v2";
        let runtime = text(value);
        let is_default = runtime == default || (is_runc(runtime) && is_runc(default));
        if !runtime.is_empty() && !is_default {
            found.add(Power::Runtime(runtime.to_owned()));
        }
    }),
    ("SecurityOpt", |value, _, found| {
        // With these the engine itself takes the label away.
        let brings_no_label = [Power::Privileged, Power::HostPid, Power::HostIpc];
        let is_label_gone = brings_no_label
            .iter()
            .any(|power| found.powers.contains(power));
        for option in elements(value).map(text) {
            let is_engines = is_label_gone && option == "label=disable";
            found.when(!is_engines && !is_confining(option), Power::Unconfined);
        }
    }),
    ("MaskedPaths", |value, _, found| {
        found.when(!covers(value, MASKED_PATHS), Power::Unconfined);
    }),
    ("ReadonlyPaths", |value, _, found| {
        found.when(!covers(value, READ_ONLY_PATHS), Power::Unconfined);
    }),
];

/// The fields of `HostConfig` that give no power, or none that `Mounts` does not tell as well.
const HARMLESS: &[&str] = &[
    "Annotations",
    "AutoRemove",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeight",
    "BlkioWeightDevice",
    "CapDrop",
    "CgroupParent",
    "ConsoleSize",
    "ContainerIDFile",
    "CpuCount",
    "CpuPercent",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "ExtraHosts",
    "GroupAdd",
    "IOMaximumBandwidth",
    "IOMaximumIOps",
    "Init",
    "Isolation",
    "KernelMemory",
    "KernelMemoryTCP",
    "Links",
    "LogConfig",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "MemorySwappiness",
    "Mounts",
    "NanoCpus",
    "OomKillDisable",
    "OomScoreAdj",
    "PidsLimit",
    "PortBindings",
    "PublishAllPorts",
    "ReadonlyRootfs",
    "RestartPolicy",
    "ShmSize",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Ulimits",
    "VolumeDriver",
    "VolumesFrom",
];

/// The runtime of an engine that names none.
const RUNC: &str = "runc";

/// What Docker hides of `/proc` and `/sys` by default since 19.03; newer engines hide more.
const MASKED_PATHS: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

/// What Docker lets nobody write to by default.
const READ_ONLY_PATHS: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Where engines have their sockets: Docker's, containerd's, Podman's, CRI-O's, cri-dockerd's,
/// BuildKit's, in the form that [`normal_path`] makes.
const ENGINE_SOCKETS: &[&str] = &[
    "/run/docker.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/containerd/containerd.sock",
    "/run/containerd/containerd.sock.ttrpc",
    "/run/podman/podman.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/buildkit/buildkitd.sock",
];

/// Reads the answer to `GET /containers/{id}/json`.
pub(super) fn read(answer: &Value, defaults: &EngineDefaults) -> Found {
    let mut found = Found::default();
    match answer.get("HostConfig").and_then(Value::as_object) {
        None => found.unknown("HostConfig", "absent"),
        Some(config) => {
            for (field, read) in HOST_CONFIG {
                // A field that is not there asks for nothing: the engine's default.
                match config.get(*field) {
                    None | Some(Value::Null) => {}
                    Some(value) => read(value, defaults, &mut found),
                }
            }
            let is_known = |field: &&String| {
                HARMLESS.contains(&field.as_str())
                    || HOST_CONFIG.iter().any(|(known, _)| known == field)
            };
            found.unknown_fields = config.keys().filter(|field| !is_known(field)).count();
        }
    }
    for mount in answer.get("Mounts").into_iter().flat_map(elements) {
        read_mount(mount, defaults, &mut found);
    }
    found
}

fn read_mount(mount: &Value, defaults: &EngineDefaults, found: &mut Found) {
    let field = |key| mount.get(key).and_then(Value::as_str).unwrap_or_default();
    match field("Type") {
        "bind" => {
            let path = normal_path(field("Source"));
            let read_only = mount.get("RW").and_then(Value::as_bool) == Some(false);
            found.powers.extend(bind_powers(&path, read_only, defaults));
        }
        "volume" => match (field("Driver"), field("Name")) {
            ("local", name) if !name.is_empty() => {
                found.local_volumes.insert(name.to_owned());
            }
            ("", _) => found.add(Power::Volume("unknown".to_owned())),
            (driver, _) => found.add(Power::Volume(driver.to_owned())),
        },
        "cluster" => found.add(Power::Volume("cluster".to_owned())),
        // A file system in memory, or an image's own.
        "tmpfs" | "image" => {}
        other => found.unknown("Mounts", other),
    }
}

/// What a bind of a path gives. An engine's socket by itself needs `engine-socket` alone; a directory
/// that holds one needs both grants.
pub(super) fn bind_powers(
    path: &str,
    read_only: bool,
    defaults: &EngineDefaults,
) -> impl Iterator<Item = Power> + use<> {
    let sockets = || {
        ENGINE_SOCKETS
            .iter()
            .copied()
            .chain(defaults.socket.as_deref())
    };
    let is_socket = sockets().any(|socket| socket == path);
    let holds_socket = sockets().any(|socket| is_under(socket, path));
    let bind = (!is_socket).then(|| Power::bind(path, read_only));
    bind.into_iter()
        .chain(holds_socket.then_some(Power::EngineSocket))
}

/// What the options of a volume of the driver `local` give: `GET /volumes/{name}`.
///
/// They are `mount`'s: `o=bind` wins over any type, and the rest mounts a file system of the type.
pub(super) fn read_volume(answer: &Value, defaults: &EngineDefaults) -> BTreeSet<Power> {
    let mut found = Found::default();
    let is_readable = match answer.get("Options") {
        None | Some(Value::Null) => true,
        Some(Value::Object(options)) => options.values().all(Value::is_string),
        Some(_) => false,
    };
    if !is_readable {
        found.add(Power::Volume("unknown".to_owned()));
    }
    let option = |key| {
        let options = answer.get("Options")?.as_object()?;
        let (_, value) = options
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        value.as_str()
    };
    let (kind, flags) = (option("type").unwrap_or(""), option("o").unwrap_or(""));
    let device = option("device").unwrap_or("");
    let has = |wanted: &str| flags.split(',').any(|flag| flag == wanted);
    let is_bind = has("bind") || has("rbind");
    // The last one of both wins, and ` ro` is no flag.
    let is_read_only = has("ro") && !has("rw");
    match (kind, device) {
        _ if is_bind => {
            found
                .powers
                .extend(bind_powers(&normal_path(device), is_read_only, defaults))
        }
        ("", "") | ("tmpfs", _) => {}
        (_, device) if device.starts_with("/dev/") => {
            found.add(Power::device(device));
        }
        (kind, _) => found.add(Power::Volume(
            if kind.is_empty() { "unknown" } else { kind }.to_owned(),
        )),
    }
    found.powers
}

impl Found {
    fn add(&mut self, power: Power) {
        self.powers.insert(power);
    }

    fn when(&mut self, is_so: bool, power: Power) {
        if is_so {
            self.add(power);
        }
    }

    fn unknown(&mut self, field: &str, value: &str) {
        let shown: String = value.chars().take(100).collect();
        self.add(Power::Unknown(format!("{field}={shown}")));
    }

    /// Joins the container of `container:<id or name>`.
    fn join(&mut self, mode: &str) {
        if let Some(container) = mode.strip_prefix("container:") {
            self.joins.insert(container.to_owned());
        }
    }

    fn namespace(&mut self, field: &str, value: &Value, ordinary: &[&str], of_host: Power) {
        match text(value) {
            "host" => self.add(of_host),
            mode if mode.starts_with("container:") => self.join(mode),
            mode if ordinary.contains(&mode) => {}
            mode => self.unknown(field, mode),
        }
    }

    fn each(&mut self, field: &str, value: &Value, power: impl Fn(&str) -> Power) {
        for element in elements(value) {
            match element.as_str() {
                Some(element) => self.add(power(element)),
                None => self.unknown(field, &element.to_string()),
            }
        }
    }
}

/// Whether a security option keeps to the engine's default, or is stricter. Profiles are chosen by
/// `seccomp=` and `apparmor=`, also in their old form with a colon.
fn is_confining(option: &str) -> bool {
    let (key, value) = option.split_once(['=', ':']).unwrap_or((option, "true"));
    match key {
        "no-new-privileges" => true,
        "seccomp" => matches!(value, "default" | "builtin"),
        "apparmor" => value == "docker-default",
        _ => false,
    }
}

fn covers(value: &Value, paths: &[&str]) -> bool {
    let given: Vec<_> = elements(value).map(text).collect();
    paths.iter().all(|path| given.contains(path))
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// The elements of an array; anything else counts as its own only element.
fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    match value {
        Value::Null => [].iter(),
        Value::Array(array) => array.iter(),
        other => std::slice::from_ref(other).iter(),
    }
}

/// A text; anything else is none that is known.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests;
