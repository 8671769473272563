//! A thread of its own, with a runtime of its own that yields to all others, for what clients ask for: neither
//! their number nor what they ask takes the time of enforcement.

use std::thread::{self, JoinHandle};

use anyhow::anyhow;
use rustix::process::setpriority_process;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// How nice it is. It still has a tenth of the time of each who is not.
const NICE: i32 = 10;

/// Work on such a thread.
pub(super) struct Aside {
    ended: oneshot::Receiver<anyhow::Result<()>>,
    thread: JoinHandle<()>,
}

impl Aside {
    /// Begins it.
    ///
    /// # Errors
    /// When there can't be such a thread.
    pub(super) fn begin(
        name: &'static str,
        work: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (sender, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Of this thread and those that it begins. Only a system that forbids to be nice refuses.
                let _ = setpriority_process(None, NICE);
                let worked = runtime.block_on(runtime.spawn(work));
                // What blocks on a disk that hangs may keep neither this thread nor the process.
                runtime.shutdown_background();
                let _ = sender.send(worked.unwrap_or_else(|error| Err(error.into())));
            })?;
        Ok(Self { ended, thread })
    }

    /// Until it ends, with its reason.
    pub(super) async fn ended(self) -> anyhow::Result<()> {
        let ended = self.ended.await;
        // It has nothing left to do but this.
        let joined = self.thread.join();
        match (ended, joined) {
            (Ok(ended), Ok(())) => ended,
            _ => Err(anyhow!("its thread panicked")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_yields_to_others_and_ends_with_its_reason() {
        let priority = || rustix::process::getpriority_process(None).expect("a priority");
        let before = priority();
        let (sender, told) = oneshot::channel();
        let work = async move {
            let blocking = tokio::task::spawn_blocking(priority).await?;
            let _ = sender.send([priority(), blocking]);
            anyhow::bail!("enough");
        };
        let aside = Aside::begin("aside", work).expect("a thread");
        let error = aside.ended().await.expect_err("its reason");
        assert_eq!(error.to_string(), "enough");
        let nice = NICE.max(before);
        assert_eq!(told.await, Ok([nice, nice]));
        assert_eq!(priority(), before);
    }

    #[tokio::test]
    async fn a_panic_is_its_reason() {
        let work = async { panic!("a defect") };
        let aside = Aside::begin("aside", work).expect("a thread");
        let error = aside.ended().await.expect_err("a panic");
        assert!(error.to_string().contains("a defect"), "{error:#}");
    }
}
