//! What a stream has told: what it tells again, and that it is silently dead.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use crate::container::{ContainerId, State};
use crate::engine::{Change, ChangeKind, Listing};

/// How long an event may be on its way behind a list: those with labels of megabytes take theirs.
const ON_ITS_WAY: Duration = Duration::from_secs(10);

/// How many events are known again: far more than the engine tells a second time.
const KNOWN: usize = 2_048;

/// Finds out what is told again: a new connection begins with what was told over the last one. Times alone do
/// not tell, as the engine's clock may be set back. Kept are hashes that nobody else can work out: of thousands of
/// events with their ids there would be a megabyte.
#[derive(Default)]
pub(super) struct Repeats {
    hasher: RandomState,
    told: VecDeque<u64>,
    /// What is told again over this connection, each once.
    expected: HashSet<u64>,
}

impl Repeats {
    /// A new connection begins.
    pub(super) fn expect_repeats(&mut self) {
        self.expected = self.told.iter().copied().collect();
    }

    pub(super) fn is_repeated(&mut self, change: &Change) -> bool {
        let hash = self.hasher.hash_one(change);
        let is_repeated = self.expected.remove(&hash);
        if !is_repeated {
            self.told.truncate(KNOWN - 1);
            self.told.push_front(hash);
        }
        is_repeated
    }
}

/// Finds out that a stream is silently dead: lists show a container, or show it running, for
/// longer than an event may be on its way, and the stream never spoke of that.
#[derive(Default)]
pub(super) struct Told {
    /// Every container that was heard of, and whether it runs.
    known: Option<HashMap<ContainerId, bool>>,
    /// Those that the stream spoke of since the last list, which may be older than that.
    recent: HashSet<ContainerId>,
    /// Those that a list showed and the stream has not spoken of, and since when.
    untold: HashMap<ContainerId, Instant>,
}

impl Told {
    pub(super) fn by_stream(&mut self, change: &Change) {
        self.untold.remove(&change.id);
        self.recent.insert(change.id.clone());
        if let Some(known) = &mut self.known {
            let runs = known.entry(change.id.clone()).or_default();
            match change.kind {
                ChangeKind::Start | ChangeKind::Restart | ChangeKind::Unpause => *runs = true,
                ChangeKind::Die => *runs = false,
                _ => {}
            }
        }
    }

    /// Whether something is still listed that the stream has not told of for too long.
    pub(super) fn by_list(&mut self, listing: &Listing, now: Instant) -> bool {
        let listed: HashMap<_, _> = listing
            .containers
            .iter()
            .map(|container| (container.id.clone(), container.state == State::Running))
            .collect();
        let Some(known) = &mut self.known else {
            self.known = Some(listed);
            return false;
        };
        let untold: HashMap<_, _> = listed
            .iter()
            .filter(|(id, runs)| match known.get(*id) {
                None => true,
                Some(knew_running) => **runs && !knew_running,
            })
            .map(|(id, _)| (id.clone(), *self.untold.get(id).unwrap_or(&now)))
            .collect();
        let recent = std::mem::take(&mut self.recent);
        known.retain(|id, _| listed.contains_key(id) || recent.contains(id));
        self.untold = untold;
        self.untold
            .values()
            .any(|since| now.duration_since(*since) >= ON_ITS_WAY)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::container::Container;

    fn id(digit: char) -> ContainerId {
        ContainerId::parse(&digit.to_string().repeat(64)).expect("full id")
    }

    fn change(digit: char, kind: ChangeKind) -> Change {
        Change {
            id: id(digit),
            kind,
            time: Timestamp::UNIX_EPOCH,
            exec: None,
            exit_code: None,
        }
    }

    fn running(digits: &str) -> Listing {
        let mut listing = listing(digits);
        for container in &mut listing.containers {
            container.state = State::Running;
        }
        listing
    }

    fn listing(digits: &str) -> Listing {
        Listing {
            containers: digits
                .chars()
                .map(|digit| Container::new(id(digit)))
                .collect(),
            unreadable: 0,
        }
    }

    #[test]
    fn a_container_listed_twice_and_never_told_of_means_a_dead_stream() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(!told.by_list(&listing("ab"), now));
        told.by_stream(&change('c', ChangeKind::Create));
        assert!(
            !told.by_list(&listing("abcd"), now),
            "d's event may still be on its way"
        );
        told.by_stream(&change('d', ChangeKind::Create));
        assert!(!told.by_list(&listing("abcde"), now));
        assert!(
            told.by_list(&listing("abcde"), now + ON_ITS_WAY),
            "e was never told of"
        );
    }

    #[test]
    fn what_a_new_connection_tells_again_is_known() {
        let at = |kind, second| Change {
            time: Timestamp::from_second(second).expect("a time"),
            ..change('a', kind)
        };
        let life = [at(ChangeKind::Start, 1), at(ChangeKind::Die, 2)];
        let mut repeats = Repeats::default();
        repeats.expect_repeats();
        let is_new = |repeats: &mut Repeats, one| !repeats.is_repeated(one);
        assert!(life.iter().all(|one| is_new(&mut repeats, one)));
        for _ in 0..2 {
            repeats.expect_repeats();
            assert!(!life.iter().any(|one| is_new(&mut repeats, one)));
            // Over one connection nothing is told twice: its times are coarse.
            assert!(is_new(&mut repeats, &life[1]));
        }
        assert!(is_new(&mut repeats, &at(ChangeKind::Start, 0)));
        for second in 0..10_000 {
            repeats.is_repeated(&at(ChangeKind::Other, second));
        }
        assert!(repeats.told.len() <= KNOWN);
    }

    #[test]
    fn a_start_that_was_never_told_of_means_a_dead_stream() {
        let (mut told, now) = (Told::default(), Instant::now());
        assert!(!told.by_list(&listing("a"), now));
        assert!(
            !told.by_list(&running("a"), now),
            "its event may still be on its way"
        );
        told.by_stream(&change('a', ChangeKind::Start));
        assert!(!told.by_list(&running("a"), now));
        told.by_stream(&change('a', ChangeKind::Die));
        assert!(
            !told.by_list(&running("a"), now),
            "the list may lag behind a death"
        );
        assert!(
            told.by_list(&running("a"), now + ON_ITS_WAY),
            "it was started again, unheard"
        );
    }
}
