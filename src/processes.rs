//! The processes of the engine's host, where this process sees them: whether it may end them, and a
//! SIGKILL that reaches a process of one container or none.

use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::thread::{CapabilitySet, capabilities};

use crate::container::ContainerId;

/// A container's first process was made. Its program begins a few milliseconds later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskCreated {
    /// The container.
    pub id: ContainerId,
    /// The process, by its number on the engine's host.
    pub pid: u32,
    /// When, by the clock of that host.
    pub at: jiff::Timestamp,
    /// When word of it came.
    pub arrived: tokio::time::Instant,
}

/// Why a process was not ended.
#[derive(Debug, thiserror::Error)]
pub enum NotKilled {
    /// There is no such process any more.
    #[error("process {0} is gone")]
    Gone(u32),
    /// Its number was used again, or means another process here.
    #[error("process {0} is not one of that container")]
    Foreign(u32),
    /// This process may not.
    #[error("process {0} can't be ended by this one: {1}")]
    Refused(u32, io::Error),
}

/// Sends SIGKILL to a process of a container. The first process of a pid namespace takes all others in it
/// along.
///
/// # Errors
/// When it is gone, belongs to something else or the kernel refuses: then nothing was sent.
pub fn kill(pid: u32, id: &ContainerId) -> Result<(), NotKilled> {
    let of_errno = |errno: Errno| match errno {
        Errno::SRCH => NotKilled::Gone(pid),
        errno => NotKilled::Refused(pid, errno.into()),
    };
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(raw.ok_or(NotKilled::Gone(pid))?, PidfdFlags::empty());
    let process = process.map_err(of_errno)?;
    // From here on the signal reaches the process that has the number now, or none: whose it is
    // is looked at after that, never before.
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    let cgroups = cgroups.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NotKilled::Gone(pid),
        _ => NotKilled::Refused(pid, error),
    })?;
    if !is_of(&cgroups, id) {
        return Err(NotKilled::Foreign(pid));
    }
    pidfd_send_signal(&process, Signal::KILL).map_err(of_errno)
}

/// The oldest process of a container, which is its first one, by the kernel's word alone. `None` where it has none.
pub fn oldest_of(id: &ContainerId) -> Option<u32> {
    let numbers = std::fs::read_dir("/proc").into_iter().flatten();
    let numbers = numbers.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_its = |pid: &u32| {
        let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
        cgroups.is_ok_and(|cgroups| is_of(&cgroups, id))
    };
    numbers.filter(is_its).min_by_key(|pid| (began(*pid), *pid))
}

/// When a process began, in ticks since the boot; the end of time where it is gone.
fn began(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The program's name stands in brackets, and may hold any. What follows the last one are fields 3 and on.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let began = fields.split_whitespace().nth(22 - 3);
    began
        .and_then(|ticks| ticks.parse().ok())
        .unwrap_or(u64::MAX)
}

/// Whether processes have the same numbers here as for the process `peer`, one that made a socket: it is
/// seen from here, and in no namespace below.
pub fn has_same_numbers(peer: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{peer}/status"));
    status.is_ok_and(|status| {
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| numbers.split_whitespace().count() == 1)
    })
}

/// Whether this process may signal those of other users.
pub fn may_kill() -> bool {
    capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::KILL))
}

/// Whether one of a process's control groups is a container's: `…/<id>`, `…/docker-<id>.scope`, or below. A
/// container's may be put below another's.
fn is_of(cgroups: &str, id: &ContainerId) -> bool {
    let paths = cgroups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2));
    let container = |path: &str| {
        path.rsplit('/').find_map(|name| {
            let scope = name.strip_suffix(".scope");
            let (kind, name) = scope.map_or(("", name), |scope| {
                scope.rsplit_once('-').unwrap_or(("", scope))
            });
            // What watches over a container stands beside it.
            ContainerId::parse(name).filter(|_| !kind.ends_with("conmon"))
        })
    };
    paths.filter_map(container).any(|one| one == *id)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn id(pair: &str) -> ContainerId {
        ContainerId::parse(&pair.repeat(32)).expect("full id")
    }

    #[test]
    fn a_control_group_says_whose_a_process_is() {
        let (one, other) = (id("ab"), id("cd"));
        for path in [
            format!("12:pids:/docker/{one}"),
            format!("0::/system.slice/docker-{one}.scope"),
            format!("0::/../{one}/init.scope"),
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{one}.scope"),
            format!("0::/machine.slice/libpod-{one}.scope"),
            format!("3:cpu:/\n0::/docker/{one}"),
        ] {
            assert!(is_of(&path, &one), "{path}");
            assert!(!is_of(&path, &other), "{path}");
        }
        for path in [
            "0::/",
            "",
            "nonsense",
            &format!("0::/machine.slice/libpod-conmon-{one}.scope"),
            &format!("0::/docker/x{one}"),
            &format!("0::/docker/{one}/{other}"),
        ] {
            assert!(!is_of(path, &one), "{path}");
        }
    }

    #[test]
    fn a_process_of_something_else_is_never_hit() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdout(Stdio::null())
            .spawn()
            .expect("sleep runs");
        let refused = kill(child.id(), &id("ab"));
        assert!(matches!(refused, Err(NotKilled::Foreign(_))), "{refused:?}");
        assert!(child.try_wait().expect("a child").is_none(), "it was hit");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let gone = kill(child.id(), &id("ab"));
        assert!(matches!(gone, Err(NotKilled::Gone(_))), "{gone:?}");
        for pid in [0, u32::MAX] {
            assert!(matches!(kill(pid, &id("ab")), Err(NotKilled::Gone(_))));
        }
    }
}
