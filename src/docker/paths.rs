//! Where the paths of this host lead, with at most one resolution of each under way: on a file
//! system that hangs each would keep a thread, and there are only so many.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync;

use super::{QUICK, unreachable, within};
use crate::engine::EngineError;
use crate::grant::normal_path;

#[derive(Default)]
pub(super) struct Paths {
    /// Held by whoever resolves the path, to the end of that and not of the wait for it.
    busy: Mutex<HashMap<String, Arc<sync::Mutex<()>>>>,
}

impl Paths {
    /// Where a path leads in the end; itself where nothing is there.
    pub(super) async fn real(&self, path: &str) -> Result<String, EngineError> {
        let real = self.resolve(path, |path| std::fs::canonicalize(Path::new(path)));
        // A path on a file system that hangs is one that can't be judged yet.
        Ok(match within(QUICK, real).await? {
            Ok(real) => normal_path(&real.to_string_lossy()),
            Err(_) => path.to_owned(),
        })
    }

    /// What is found by a look that begins after this call: an earlier one may be outdated.
    async fn resolve<T: Send + 'static>(
        &self,
        path: &str,
        resolver: impl FnOnce(&str) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let turn = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, turn| Arc::strong_count(turn) > 1);
            busy.entry(path.to_owned()).or_default().clone()
        };
        let guard = turn.lock_owned().await;
        let path = path.to_owned();
        let resolving = tokio::task::spawn_blocking(move || {
            let real = resolver(&path);
            drop(guard);
            real
        });
        resolving.await.map_err(unreachable)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_path_that_hangs_keeps_one_thread_and_no_other_path() {
        static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
        let paths = Paths::default();
        let (heal, healed) = mpsc::channel::<()>();
        let healed = Arc::new(Mutex::new(healed));
        let hang = || {
            let healed = healed.clone();
            let resolve = paths.resolve("/hung", move |_| {
                UNDER_WAY.fetch_add(1, Ordering::Relaxed);
                // Until there is no more sender.
                let _ = healed.lock().map(|healed| healed.recv());
            });
            tokio::time::timeout(Duration::from_millis(20), resolve)
        };
        for _ in 0..5 {
            assert!(hang().await.is_err());
        }
        assert_eq!(UNDER_WAY.load(Ordering::Relaxed), 1);
        let other = paths.resolve("/other", str::to_owned).await;
        assert_eq!(other.expect("resolved"), "/other");

        drop(heal);
        let again = paths.resolve("/hung", str::to_owned).await;
        assert_eq!(again.expect("resolved"), "/hung");
        assert_eq!(UNDER_WAY.load(Ordering::Relaxed), 1);
        let busy = paths.busy.lock().expect("no panic").len();
        assert!(busy <= 1, "{busy}");
    }
}
