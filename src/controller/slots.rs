//! A bound on concurrent calls that counts only young ones.
//!
//! A starting container can hold its lock for minutes, and every call on it hangs as long. Such
//! calls give their slot back, so that no number of them holds up another container's end.

use std::time::Duration;

use tokio::sync::Semaphore;

/// From this age on a call no longer counts. Most kills take a tenth of it.
const YOUNG: Duration = Duration::from_millis(250);

pub(super) struct Slots(Semaphore);

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self(Semaphore::new(count))
    }

    /// Makes a call when a slot is free.
    pub(super) async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        // The semaphore is never closed; were it, the call would simply go unbounded.
        let slot = self.0.acquire().await.ok();
        tokio::pin!(call);
        match tokio::time::timeout(YOUNG, &mut call).await {
            Ok(answer) => answer,
            Err(_) => {
                drop(slot);
                call.await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn calls_that_hang_give_their_slot_back() {
        let slots = Arc::new(Slots::new(2));
        let mut hanging = tokio::task::JoinSet::new();
        for _ in 0..10 {
            let slots = slots.clone();
            hanging.spawn(async move { slots.call(pending::<()>()).await });
        }
        let begun = tokio::time::Instant::now();
        tokio::task::yield_now().await;
        slots.call(async {}).await;
        assert!(begun.elapsed() <= YOUNG * 5, "{:?}", begun.elapsed());
    }
}
