//! What a container can do and an ordinary one can't.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The capabilities of the kernel, without `CAP_`; `ALL` is the engine's word for all of them.
pub const CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

/// Something that a container can do and an ordinary one can't.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Power {
    /// `--privileged`.
    Privileged,
    /// The host's network.
    HostNetwork,
    /// The host's processes.
    HostPid,
    /// The host's shared memory and semaphores.
    HostIpc,
    /// The host's name.
    HostUts,
    /// The host's users, on an engine that remaps them.
    HostUserns,
    /// The host's view of cgroups.
    HostCgroupns,
    /// Namespaces of the container of this name.
    Join(String),
    /// A way to an engine's API, which is root on its host.
    EngineSocket,
    /// A path of the host.
    Bind {
        /// Absolute, as [`normal_path`] makes it.
        path: String,
        /// It can't be written to.
        read_only: bool,
    },
    /// A volume of this driver, or a local one that mounts a file system of this type.
    Volume(String),
    /// A device of the host, by its path there or by its CDI name, `vendor.com/class=name`.
    Device(String),
    /// Devices by number.
    DeviceRule,
    /// GPUs, by device requests.
    Gpus,
    /// An added capability, without `CAP_`.
    Capability(String),
    /// Another runtime than the engine's default.
    Runtime(String),
    /// Without the engine's default seccomp or AppArmor profile, SELinux label or masked paths.
    Unconfined,
    /// A value that this version does not know, as `Field=value`. Only `all` grants it.
    Unknown(String),
}

/// The powers that have neither a name nor a path.
pub(super) const PLAIN: &[(&str, Power)] = &[
    ("privileged", Power::Privileged),
    ("host-network", Power::HostNetwork),
    ("host-pid", Power::HostPid),
    ("host-ipc", Power::HostIpc),
    ("host-uts", Power::HostUts),
    ("host-userns", Power::HostUserns),
    ("host-cgroupns", Power::HostCgroupns),
    ("engine-socket", Power::EngineSocket),
    ("device-rule", Power::DeviceRule),
    ("gpus", Power::Gpus),
    ("unconfined", Power::Unconfined),
];

impl Power {
    /// A capability in any spelling: `CAP_SYS_ADMIN`, `sys_admin`.
    pub fn capability(typed: &str) -> Self {
        let upper = typed.to_ascii_uppercase();
        Self::Capability(upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned())
    }

    /// A device by its path in any spelling, or by its CDI name.
    pub fn device(typed: &str) -> Self {
        Self::Device(match typed.starts_with('/') {
            true => normal_path(typed),
            false => typed.to_owned(),
        })
    }

    /// A bind of a path in any spelling.
    pub fn bind(path: &str, read_only: bool) -> Self {
        Self::Bind {
            path: normal_path(path),
            read_only,
        }
    }

    /// Reads what [`Power`]'s `Display` writes. `None` for everything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((_, power)) = PLAIN.iter().find(|(word, _)| *word == text) {
            return Some(power.clone());
        }
        let (kind, rest) = text.split_once(':')?;
        if rest.is_empty() {
            return None;
        }
        Some(match kind {
            "join" => Self::Join(rest.to_owned()),
            "bind" => {
                let (path, read_only) = split_read_only(rest);
                Self::bind(path, read_only)
            }
            "volume" => Self::Volume(rest.to_owned()),
            "device" => Self::device(rest),
            "cap" => Self::capability(rest),
            "runtime" => Self::Runtime(rest.to_owned()),
            "unknown" => Self::Unknown(rest.to_owned()),
            _ => return None,
        })
    }
}

impl fmt::Display for Power {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((word, _)) = PLAIN.iter().find(|(_, power)| power == self) {
            return formatter.write_str(word);
        }
        match self {
            Self::Join(name) => write!(formatter, "join:{name}"),
            Self::Bind { path, read_only } => {
                let mode = match read_only {
                    true => ":ro",
                    // A directory may be called so; it is not one that can't be written to.
                    false if path.ends_with(":ro") || path.ends_with(":rw") => ":rw",
                    false => "",
                };
                write!(formatter, "bind:{path}{mode}")
            }
            Self::Volume(driver) => write!(formatter, "volume:{driver}"),
            Self::Device(path) => write!(formatter, "device:{path}"),
            Self::Capability(name) => write!(formatter, "cap:{name}"),
            Self::Runtime(name) => write!(formatter, "runtime:{name}"),
            Self::Unknown(value) => write!(formatter, "unknown:{value}"),
            // The rest has no name or path of its own and was found above.
            _ => Ok(()),
        }
    }
}

impl Serialize for Power {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Power {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // What another version calls a power is one that this version does not know.
        Ok(Self::parse(&text).unwrap_or(Self::Unknown(text)))
    }
}

/// Whether `path` is `top` or lies under it; both in normal form.
pub fn is_under(path: &str, top: &str) -> bool {
    match path.strip_prefix(top.trim_end_matches('/')) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// A path without `.`, `..`, double and closing slashes, and with `/run` for its old name `/var/run`.
/// Only the text is looked at.
pub fn normal_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if let ["var", "run", rest @ ..] = parts.as_slice() {
        parts = ["run"].into_iter().chain(rest.iter().copied()).collect();
    }
    format!("/{}", parts.join("/"))
}

/// A path, and whether it is marked as one that can't be written to.
pub(super) fn split_read_only(text: &str) -> (&str, bool) {
    match text.strip_suffix(":ro") {
        Some(path) => (path, true),
        None => (text.strip_suffix(":rw").unwrap_or(text), false),
    }
}
