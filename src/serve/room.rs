//! Room for a bounded number of clients. Where it is full, one of them makes room for the next: first who
//! never asked anything, then who was silent for longest. So neither half requests nor ten thousand
//! connections keep others out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A client that is served.
pub(super) struct Guest {
    has_asked: AtomicBool,
    heard: Mutex<Instant>,
    leave: CancellationToken,
}

impl Guest {
    fn new() -> Self {
        Self {
            has_asked: AtomicBool::new(false),
            heard: Mutex::new(Instant::now()),
            leave: CancellationToken::new(),
        }
    }

    /// A whole request has come.
    pub(super) fn asks(&self) {
        self.has_asked.store(true, Ordering::Relaxed);
    }

    /// Something was said, either way.
    pub(super) fn is_heard(&self, now: Instant) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Until it has to make room.
    pub(super) async fn has_to_leave(&self) {
        self.leave.cancelled().await;
    }

    /// The least leaves first.
    fn rank(&self) -> (bool, Instant) {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        (self.has_asked.load(Ordering::Relaxed), heard)
    }
}

/// Who is served. A guest is gone when nobody else holds it.
#[derive(Default)]
pub(super) struct Room(Vec<Arc<Guest>>);

impl Room {
    pub(super) fn enter(&mut self) -> Arc<Guest> {
        // As often as their number has doubled, so that it costs little.
        if self.0.len() == self.0.capacity() {
            self.forget_who_is_gone();
        }
        let guest = Arc::new(Guest::new());
        self.0.push(guest.clone());
        guest
    }

    /// Has one leave.
    pub(super) fn make_room(&mut self) {
        self.forget_who_is_gone();
        let staying = self.0.iter().filter(|guest| !guest.leave.is_cancelled());
        if let Some(guest) = staying.min_by_key(|guest| guest.rank()) {
            guest.leave.cancel();
        }
    }

    fn forget_who_is_gone(&mut self) {
        self.0.retain(|guest| Arc::strong_count(guest) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_never_asked_leaves_first_and_then_who_is_silent_for_longest() {
        let (mut room, begun) = (Room::default(), Instant::now());
        let guests: Vec<_> = (0..4).map(|_| room.enter()).collect();
        // (guest, has asked, when heard last)
        for (guest, has_asked, heard) in [(0, true, 1), (1, false, 3), (2, false, 4), (3, true, 2)]
        {
            guests[guest].is_heard(begun + Duration::from_secs(heard));
            if has_asked {
                guests[guest].asks();
            }
        }
        for leaves in [1, 2, 0, 3] {
            assert!(!guests[leaves].leave.is_cancelled(), "{leaves}");
            room.make_room();
            assert!(guests[leaves].leave.is_cancelled(), "{leaves}");
        }
        drop(guests);
        room.make_room();
        assert!(room.0.is_empty());
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut room = Room::default();
        for _ in 0..10_000 {
            drop(room.enter());
        }
        assert!(room.0.len() < 100, "{}", room.0.len());
    }
}
