//! `dockwarden run`, `controller` and `api`: arguments to settings.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::access::AccessArguments;
use super::duration;
use super::notify::NotifyArguments;
use super::{Answer, BAD_USAGE, EngineArguments, FINE, Failure, INTERNAL};
use crate::app;
use crate::containerd;
use crate::journal::{Destination, MOST_KEPT, Rotation};
use crate::status::Role;
use crate::telemetry::{self, LogFormat};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    engine: EngineArguments,
    /// The allowlist
    #[arg(
        long,
        env = "DOCKWARDEN_ALLOWLIST",
        value_name = "FILE",
        default_value = "/etc/dockwarden/allowlist.toml"
    )]
    allowlist: PathBuf,
    /// Touch nothing, whatever the list says; no option wins towards enforcing
    #[arg(long, env = "DOCKWARDEN_MODE", value_name = "audit")]
    mode: Option<OnlyAudit>,
    /// Where to listen [default: 127.0.0.1:8080, the controller's 127.0.0.1:8081]
    #[arg(long, env = "DOCKWARDEN_LISTEN", value_name = "HOST:PORT")]
    listen: Option<String>,
    /// How often all containers are listed and judged, events aside
    #[arg(
        long,
        env = "DOCKWARDEN_RESYNC",
        value_name = "DURATION",
        default_value = "30s",
        value_parser = duration::within(Duration::from_secs(1)..)
    )]
    resync: Duration,
    /// Where decisions are recorded, a JSON object a line; `-`: standard output. The api reads it
    #[arg(long, env = "DOCKWARDEN_AUDIT_LOG", value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// Where the state is kept that outlives the process; the api reads it [default:
    /// dockwarden-state beside the audit log]
    #[arg(long, env = "DOCKWARDEN_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How large a file of the audit log may grow before a new one is begun
    #[arg(
        long,
        env = "DOCKWARDEN_AUDIT_MAX_SIZE",
        value_name = "SIZE",
        default_value = "50MiB",
        value_parser = size
    )]
    audit_max_size: u64,
    /// How many old files of the audit log are kept: FILE.1, the newest of them, and so on
    #[arg(
        long,
        env = "DOCKWARDEN_AUDIT_KEEP",
        value_name = "NUMBER",
        default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_KEPT))
    )]
    audit_keep: u32,
    /// The engine's containerd, by which what is denied is ended before its program begins: `auto` looks
    /// beside the engine's socket, `off` leaves it alone, else the path of its socket
    #[arg(
        long,
        env = "DOCKWARDEN_CONTAINERD",
        value_name = "auto|off|PATH",
        default_value = "auto"
    )]
    containerd: containerd::Socket,
    /// The container that dockwarden itself runs in, where it can't find out
    #[arg(long, env = "DOCKWARDEN_SELF_ID", value_name = "ID")]
    self_id: Option<String>,
    /// The host's name in records [default: the engine's own]
    #[arg(long, env = "DOCKWARDEN_HOST_NAME", value_name = "NAME")]
    host_name: Option<String>,
    /// Which labels' values the API shows
    #[arg(
        long,
        env = "DOCKWARDEN_SHOW_LABELS",
        value_name = "WHICH",
        default_value = "known"
    )]
    show_labels: ShowLabels,
    #[command(flatten)]
    access: AccessArguments,
    #[command(flatten)]
    notify: NotifyArguments,
    /// The form of log lines
    #[arg(
        long,
        env = "DOCKWARDEN_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace [default: RUST_LOG, else info]
    #[arg(long, env = "DOCKWARDEN_LOG_LEVEL", value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnlyAudit {
    Audit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ShowLabels {
    /// Those that rules look at, and those of Compose, Swarm and Kubernetes
    Known,
    /// All
    All,
}

pub(super) async fn run(role: Role, arguments: Arguments) -> Answer {
    hide_from_others();
    let _logging = telemetry::init(arguments.log_format, arguments.log_level.as_deref())
        .map_err(|error| Failure::bad_usage(format!("--log-level: {error}")))?;
    let listen = arguments.listen.unwrap_or_else(|| match role {
        Role::Controller => "127.0.0.1:8081".to_owned(),
        Role::Run | Role::Api => "127.0.0.1:8080".to_owned(),
    });
    let rotation = Rotation {
        max_size: arguments.audit_max_size,
        keep: arguments.audit_keep,
    };
    let audit_log = match arguments.audit_log {
        None => Destination::Memory,
        Some(path) if path.as_os_str() == "-" => Destination::StandardOutput,
        Some(path) => Destination::File(path, rotation),
    };
    let beside = audit_log.path().and_then(state_beside);
    let settings = app::Settings {
        role,
        allowlist: arguments.allowlist,
        engine: arguments.engine.endpoint(),
        listen,
        audit_only: arguments.mode.is_some(),
        resync: arguments.resync,
        state_dir: arguments.state_dir.or(beside),
        audit_log,
        containerd: arguments.containerd,
        self_id: arguments.self_id,
        host_name: arguments.host_name,
        show_all_labels: arguments.show_labels == ShowLabels::All,
        credentials: arguments.access.files(),
        allowed_hosts: arguments.access.allowed_hosts,
        notification: arguments.notify.settings(),
    };
    match app::run(settings).await {
        Ok(()) => Ok(FINE),
        Err(failure) => Err(Failure {
            code: match failure {
                app::Failure::Settings(_) => BAD_USAGE,
                app::Failure::Internal(_) => INTERNAL,
            },
            message: failure.to_string(),
        }),
    }
}

/// Where the state is kept when nothing else is said.
pub(super) fn state_beside(audit_log: &Path) -> Option<PathBuf> {
    Some(audit_log.parent()?.join("dockwarden-state"))
}

/// Closes `/proc/<pid>/root` of this process to other containers. A container that sees the host's
/// processes (`--pid host`, a bind of `/proc`) would find the engine's socket there, as this one
/// has no capability by which the kernel would tell them apart.
fn hide_from_others() {
    use rustix::process::{DumpableBehavior, getuid, set_dumpable_behavior};
    // Another user could then no longer give his own process the name by which it proves itself
    // (`own.rs`), and the root of other containers has no way to him.
    if getuid().is_root() {
        // The kernel refuses only values that it does not know.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}

/// `50MiB`, `1GiB`, `4096`.
fn size(text: &str) -> Result<u64, String> {
    const SMALLEST: u64 = 1_024;
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("a number of bytes, or of KiB, MiB or GiB".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|error| format!("{error}"))?;
    match number.checked_mul(unit) {
        Some(size) if size >= SMALLEST => Ok(size),
        Some(_) => Err("at least 1KiB".to_owned()),
        None => Err("too large".to_owned()),
    }
}
