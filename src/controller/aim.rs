//! A SIGKILL to a container's first process, ahead of the engine's own kill.

use std::time::Duration;

use tokio::time::error::Elapsed;

use super::context::Context;
use super::subject::Subject;
use crate::container::ContainerId;
use crate::processes::{self, NotKilled};
use crate::record::Path;

/// How long the engine's own kill waits for the number of a process.
const FIRST_PROCESS: Duration = Duration::from_millis(50);

/// Sends it. A failure is counted, and left to that one. `pid` is the process, where it was looked up already.
pub(super) async fn signal(context: &Context, subject: &Subject, pid: Option<u32>) -> bool {
    let pid = match pid {
        Some(pid) => Some(pid),
        None => match first_process(context, &subject.id).await {
            Ok(told) => told,
            Err(_) => oldest_process(context, &subject.id).await,
        },
    };
    let Some(pid) = pid else {
        return false;
    };
    match processes::kill(pid, &subject.id) {
        Ok(()) => true,
        // It has ended itself; the engine tells.
        Err(NotKilled::Gone(_)) => false,
        Err(error) => {
            context.fell_back(Path::Pid, &subject.id, &error);
            false
        }
    }
}

/// The number of a container's first process, by the engine.
///
/// # Errors
/// When it does not tell at once.
pub(super) async fn first_process(
    context: &Context,
    id: &ContainerId,
) -> Result<Option<u32>, Elapsed> {
    let inspected = tokio::time::timeout(FIRST_PROCESS, context.engine.inspect(id)).await?;
    Ok(inspected.ok().and_then(|inspection| inspection.pid))
}

/// The same by the kernel: what holds a container's lock keeps the engine from telling, and from killing. One goes
/// through all processes at a time, and the engine's kill does not wait for that.
async fn oldest_process(context: &Context, id: &ContainerId) -> Option<u32> {
    let turn = context.scans.clone().acquire_owned();
    let turn = tokio::time::timeout(FIRST_PROCESS, turn).await.ok()?.ok()?;
    let id = id.clone();
    let found = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        processes::oldest_of(&id)
    });
    found.await.ok()?
}
