//! A bound on concurrent calls that counts only young ones.
//!
//! A starting container can hold its lock for minutes, and every call on it hangs as long. Such
//! calls give their slot back, and the next ones on the same container wait in a lane of their own:
//! no number of them holds up another container's end for longer than their first hang did.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// From this age on a call no longer counts. Most kills take a tenth of it.
const YOUNG: Duration = Duration::from_millis(250);

/// How many calls on containers are under way at once, those that hang aside.
const CALLS: usize = 16;
/// The same for what has time.
const LEISURELY_CALLS: usize = 2;

/// Where calls wait for their turn: each kind of them for its own.
pub(super) struct Lanes {
    /// Ends of containers.
    pub(super) ends: Slots,
    /// What is asked before a verdict: no look waits until others are ended.
    pub(super) looks: Slots,
    /// The same for what was just created: its start, which follows, keeps such calls waiting, and it does not run.
    pub(super) creations: Slots,
    /// What has time: nothing that runs is waiting for it.
    pub(super) leisure: Slots,
    /// What is asked for a record alone.
    pub(super) records: Slots,
    /// The turns of those that have time.
    pub(super) turns: Slots,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            ends: Slots::new(CALLS),
            looks: Slots::new(CALLS),
            creations: Slots::new(CALLS),
            leisure: Slots::new(LEISURELY_CALLS),
            records: Slots::new(CALLS),
            turns: Slots::new(LEISURELY_CALLS),
        }
    }
}

/// One lane.
pub(super) struct Slots {
    ordinary: Semaphore,
    /// For containers whose last call hung.
    doubtful: Semaphore,
}

impl Slots {
    /// So many calls at once, and as many on containers whose last call hung.
    pub(super) fn new(count: usize) -> Self {
        Self {
            ordinary: Semaphore::new(count),
            doubtful: Semaphore::new(count),
        }
    }

    /// Waits for a slot. `hung` says whether the container's last call hung.
    pub(super) async fn slot<'a>(&'a self, hung: &'a AtomicBool) -> Slot<'a> {
        let lane = if hung.load(Ordering::Relaxed) {
            &self.doubtful
        } else {
            &self.ordinary
        };
        // The semaphore is never closed; were it, the call would simply go unbounded.
        let permit = lane.acquire().await.ok();
        Slot { permit, hung }
    }

    /// Makes a call when a slot is free. Thousands may wait for one: none has room for its call before.
    pub(super) async fn call<C: Future>(
        &self,
        hung: &AtomicBool,
        call: impl FnOnce() -> C,
    ) -> C::Output {
        let slot = self.slot(hung).await;
        slot.call(Box::pin(call())).await
    }
}

/// A place among the calls that are under way.
pub(super) struct Slot<'a> {
    permit: Option<SemaphorePermit<'a>>,
    hung: &'a AtomicBool,
}

impl Slot<'_> {
    /// Makes the call, and takes down whether it hangs.
    pub(super) async fn call<C: Future + Unpin>(self, mut call: C) -> C::Output {
        let in_time = tokio::time::timeout(YOUNG, &mut call).await;
        self.hung.store(in_time.is_err(), Ordering::Relaxed);
        drop(self.permit);
        match in_time {
            Ok(answer) => answer,
            Err(_) => call.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;

    const COUNT: usize = 4;

    /// Containers whose every call hangs, and is made again for ever.
    fn hang(slots: &Arc<Slots>, containers: usize) -> JoinSet<()> {
        let mut hanging = JoinSet::new();
        for _ in 0..containers {
            let slots = slots.clone();
            hanging.spawn(async move {
                let hung = AtomicBool::default();
                loop {
                    let call = || tokio::time::sleep(YOUNG * 2);
                    slots.call(&hung, call).await;
                }
            });
        }
        hanging
    }

    async fn delay(slots: &Slots) -> Duration {
        let begun = Instant::now();
        slots.call(&AtomicBool::default(), async || {}).await;
        begun.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_hang_delay_others_by_their_first_hang_alone() {
        for times in [1, 4] {
            let slots = Arc::new(Slots::new(COUNT));
            let hanging = hang(&slots, COUNT * times);
            tokio::time::sleep(YOUNG / 50).await;
            let first = YOUNG * u32::try_from(times).expect("a few");
            assert!(delay(&slots).await <= first + YOUNG / 10);
            for _ in 0..20 {
                tokio::time::sleep(YOUNG / 3).await;
                assert_eq!(delay(&slots).await, Duration::ZERO, "{times}");
            }
            drop(hanging);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_in_time_ends_the_doubt() {
        let slots = Slots::new(1);
        let hung = AtomicBool::default();
        let slow = || tokio::time::sleep(YOUNG * 2);
        slots.call(&hung, slow).await;
        assert!(hung.load(Ordering::Relaxed));
        slots.call(&hung, async || {}).await;
        assert!(!hung.load(Ordering::Relaxed));
    }
}
