//! A socket that is mounted as a file: noticed, and given up when it is dead for good.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use crate::status::Snapshot;

/// How long such a socket may be dead.
const LOST: Duration = Duration::from_secs(60);

/// The engine's socket, where that very file is mounted and not its directory. The engine makes a
/// new one when it restarts, and a mount stays with the old one for ever.
pub(super) fn mounted(engine: &str) -> Option<PathBuf> {
    let socket = std::fs::canonicalize(engine.strip_prefix("unix://")?).ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let is_mounted = mounts
        .lines()
        .any(|mount| mount.split(' ').nth(4).map(Path::new) == Some(&socket));
    is_mounted.then_some(socket)
}

/// Fails when the engine has been out of reach for a while: another process gets another mount.
pub(super) async fn until_lost(
    mut snapshot: watch::Receiver<Snapshot>,
    socket: PathBuf,
) -> anyhow::Result<()> {
    loop {
        // The state list's owner ends at shutdown, and this task with it.
        if snapshot
            .wait_for(|snapshot| !snapshot.connected)
            .await
            .is_err()
        {
            return Ok(());
        }
        let back = snapshot.wait_for(|snapshot| snapshot.connected);
        match tokio::time::timeout(LOST, back).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return Ok(()),
            Err(_) => anyhow::bail!(
                "no engine answered at {} for {} s; the socket is mounted as a file, which a \
                 restarted engine replaces: ending, so that a restart mounts the new one (mount \
                 its directory instead)",
                socket.display(),
                LOST.as_secs()
            ),
        }
    }
}
