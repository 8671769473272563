//! What is to be told, and how fast: a burst one by one, then no more than one each few seconds, and
//! what comes meanwhile counted in a summary. It has a bound by that.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::message::Message;

/// How many are sent one by one, at most.
const BURST: u32 = 10;
/// How often there is room for another one after that.
const EVERY: Duration = Duration::from_secs(10);

/// What to do now.
pub(super) enum Next {
    Message(Box<Message>),
    /// Something waits until then.
    At(Instant),
    Nothing,
}

pub(super) struct Queue {
    waiting: VecDeque<Message>,
    /// What is only counted, by its kind, and the last of it.
    more: BTreeMap<&'static str, usize>,
    last: Option<Message>,
    room: u32,
    /// When room was last made.
    since: Instant,
}

impl Queue {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            more: BTreeMap::new(),
            last: None,
            room: BURST,
            since: now,
        }
    }

    /// Whether it will be sent for itself; else it is counted.
    pub(super) fn push(&mut self, message: Message, now: Instant) -> bool {
        self.make_room(now);
        let fits = self.more.is_empty() && self.waiting.len() < self.room as usize;
        if fits {
            self.waiting.push_back(message);
        } else {
            self.put_back(message);
        }
        fits
    }

    /// Counts one, a summary as all that it counts.
    pub(super) fn put_back(&mut self, message: Message) {
        for (kind, number) in message.counts.clone() {
            *self.more.entry(kind).or_default() += number;
        }
        self.last = Some(message);
    }

    pub(super) fn next(&mut self, now: Instant) -> Next {
        self.make_room(now);
        if self.len() == 0 {
            return Next::Nothing;
        }
        if self.room == 0 {
            return Next::At(self.since + EVERY);
        }
        self.room -= 1;
        let message = self.waiting.pop_front().or_else(|| self.summary());
        message.map_or(Next::Nothing, |message| Next::Message(Box::new(message)))
    }

    /// How many have not been told.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.more.values().sum::<usize>()
    }

    /// One that stands alone is told for itself.
    fn summary(&mut self) -> Option<Message> {
        let last = self.last.take()?;
        let more = std::mem::take(&mut self.more);
        match more.values().sum::<usize>() {
            1 => Some(last),
            _ => Some(Message::summary(more, last.host())),
        }
    }

    fn make_room(&mut self, now: Instant) {
        while self.room < BURST && now.duration_since(self.since) >= EVERY {
            self.room += 1;
            self.since += EVERY;
        }
        if self.room == BURST {
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(queue: &mut Queue, now: Instant) -> Vec<usize> {
        let mut numbers = Vec::new();
        while let Next::Message(message) = queue.next(now) {
            numbers.push(message.counts.values().sum());
        }
        numbers
    }

    #[test]
    fn a_flood_is_a_burst_and_a_summary() {
        let begin = Instant::now();
        let mut queue = Queue::new(begin);
        let fitting = (0..500).filter(|_| queue.push(Message::test(""), begin));
        assert_eq!(fitting.count(), 10);
        assert_eq!(sent(&mut queue, begin), [1; 10]);
        assert!(matches!(queue.next(begin), Next::At(at) if at == begin + EVERY));
        assert_eq!(sent(&mut queue, begin + EVERY), [490]);
        assert!(matches!(queue.next(begin + EVERY), Next::Nothing));
    }

    #[test]
    fn room_comes_back_up_to_a_burst() {
        let begin = Instant::now();
        let mut queue = Queue::new(begin);
        for _ in 0..10 {
            queue.push(Message::test(""), begin);
        }
        assert_eq!(sent(&mut queue, begin), [1; 10]);
        assert!(!queue.push(Message::test(""), begin));
        assert_eq!(sent(&mut queue, begin + EVERY), [1], "it stands alone");
        let later = begin + EVERY * 100;
        for _ in 0..12 {
            queue.push(Message::test(""), later);
        }
        assert_eq!(sent(&mut queue, later), [1; 10]);
        assert_eq!(sent(&mut queue, later + EVERY), [2]);
    }

    #[test]
    fn what_could_not_be_sent_is_counted_in_the_next_summary() {
        let begin = Instant::now();
        let mut queue = Queue::new(begin);
        queue.put_back(Message::summary([("done", 7)].into(), ""));
        queue.put_back(Message::test(""));
        assert_eq!(queue.len(), 8);
        assert_eq!(sent(&mut queue, begin), [8]);
        queue.put_back(Message::summary([("done", 7)].into(), ""));
        assert_eq!(sent(&mut queue, begin), [7]);
    }
}
