//! The topics: bounded logs of messages, and the polls that wait for more of them.
//!
//! Invariants
//! 1. Message numbers come from one counter for all topics, so a topic that was forgotten and made
//!    again never hands out a number twice, and a client's `since` stays good.
//! 2. A seat looks for news and joins the waiting list under one lock, and `publish` adds and takes
//!    the list under the same lock: news is never between the two.
//! 3. Wakers are called after the lock is released.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cleanbreak::clock::Instant;
use parking_lot::Mutex;

use super::http::{Refusal, refuse};

/// What wakes the thread of a waiting poll. A trait, so that the topics know nothing of sockets.
pub(crate) trait Alarm {
    fn ring(&self);
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) topics: usize,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) number: u64,
    pub(crate) body: Arc<[u8]>,
}

/// The answer to "what is new after N?".
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) message: Message,
    /// Older messages after N were dropped before the client asked.
    pub(crate) gap: bool,
}

pub(crate) struct Topics<A> {
    state: Mutex<State<A>>,
}

struct State<A> {
    last_number: u64,
    last_seat: u64,
    bytes: usize,
    logs: HashMap<String, Log>,
    /// Kept apart from the logs: it is bounded by the connections, not by what was published.
    waiting: HashMap<String, HashMap<u64, Arc<A>>>,
}

struct Log {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Messages up to this number may be gone.
    lost_through: u64,
    published: Instant,
}

/// For `/stats` and the heartbeat.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) topics: usize,
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) last_number: u64,
}

impl<A: Alarm> Topics<A> {
    pub(crate) fn new() -> Self {
        let (logs, waiting) = (HashMap::new(), HashMap::new());
        Self {
            state: Mutex::new(State {
                last_number: 0,
                last_seat: 0,
                bytes: 0,
                logs,
                waiting,
            }),
        }
    }

    /// Adds a message, drops the oldest of the topic beyond the bounds, wakes who waits; the
    /// message's number.
    pub(crate) fn publish(
        &self,
        topic: &str,
        body: Vec<u8>,
        bounds: Bounds,
        now: Instant,
    ) -> Result<u64, Refusal> {
        let mut state = self.state.lock();
        state.admit(topic, body.len(), bounds)?;
        let number = state.append(topic, body, now);
        let woken = state.waiting.remove(topic);
        drop(state);
        woken
            .into_iter()
            .flat_map(HashMap::into_values)
            .for_each(|alarm| alarm.ring());
        Ok(number)
    }

    /// A place to wait at `topic`; it takes itself off the list when dropped.
    pub(crate) fn seat<'t>(&'t self, topic: &'t str, alarm: &Arc<A>) -> Seat<'t, A> {
        let mut state = self.state.lock();
        state.last_seat += 1;
        Seat {
            topics: self,
            topic,
            number: state.last_seat,
            alarm: Arc::clone(alarm),
        }
    }

    /// Forgets the topics where nothing was published for `idle`; how many they were.
    pub(crate) fn forget_idle(&self, idle: Duration, now: Instant) -> usize {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let before = state.logs.len();
        let bytes = &mut state.bytes;
        state.logs.retain(|_, log| {
            let keep = now.duration_since(log.published) < idle;
            if !keep {
                *bytes -= log.bytes;
            }
            keep
        });
        before - state.logs.len()
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state.lock();
        Counts {
            topics: state.logs.len(),
            messages: state.logs.values().map(|log| log.messages.len()).sum(),
            bytes: state.bytes,
            last_number: state.last_number,
        }
    }
}

impl<A> State<A> {
    /// Makes room in the topic, or refuses and leaves everything as it was.
    fn admit(&mut self, topic: &str, length: usize, bounds: Bounds) -> Result<(), Refusal> {
        let log = self.logs.get_mut(topic);
        let elsewhere = self.bytes - log.as_ref().map_or(0, |log| log.bytes);
        if elsewhere + length > bounds.bytes {
            return Err(refuse(507, "too many bytes are retained"));
        }
        let Some(log) = log else {
            let room = self.logs.len() < bounds.topics;
            return if room {
                Ok(())
            } else {
                Err(refuse(507, "there are too many topics"))
            };
        };
        while log.messages.len() >= bounds.messages || self.bytes + length > bounds.bytes {
            // Ends: an empty log has neither messages nor bytes, and `retain` is at least 1.
            self.bytes -= log.drop_oldest();
        }
        Ok(())
    }

    fn append(&mut self, topic: &str, body: Vec<u8>, now: Instant) -> u64 {
        let lost_through = self.last_number;
        self.last_number += 1;
        self.bytes += body.len();
        // A new topic may be a forgotten one: what came before it counts as lost.
        let new = || Log {
            messages: VecDeque::new(),
            bytes: 0,
            lost_through,
            published: now,
        };
        let log = self.logs.entry(topic.to_owned()).or_insert_with(new);
        log.published = now;
        log.bytes += body.len();
        log.messages.push_back(Message {
            number: self.last_number,
            body: body.into(),
        });
        self.last_number
    }

    fn news(&self, topic: &str, since: u64) -> Option<News> {
        let log = self.logs.get(topic)?;
        let at = log
            .messages
            .partition_point(|message| message.number <= since);
        let message = log.messages.get(at)?.clone();
        Some(News {
            message,
            gap: since < log.lost_through && since > 0,
        })
    }
}

impl Log {
    /// Drops the oldest message; its length.
    fn drop_oldest(&mut self) -> usize {
        self.messages.pop_front().map_or(0, |message| {
            self.lost_through = message.number;
            self.bytes -= message.body.len();
            message.body.len()
        })
    }
}

/// See [`Topics::seat`].
pub(crate) struct Seat<'t, A: Alarm> {
    topics: &'t Topics<A>,
    topic: &'t str,
    number: u64,
    alarm: Arc<A>,
}

impl<A: Alarm> Seat<'_, A> {
    /// The first message after `since`. When there is none, the alarm will ring at the next message
    /// of the topic.
    pub(crate) fn news_or_wait(&self, since: u64) -> Option<News> {
        let mut state = self.topics.state.lock();
        let news = state.news(self.topic, since);
        if news.is_none() {
            let waiting = state.waiting.entry(self.topic.to_owned()).or_default();
            waiting.insert(self.number, Arc::clone(&self.alarm));
        }
        news
    }
}

impl<A: Alarm> Drop for Seat<'_, A> {
    fn drop(&mut self) {
        let mut state = self.topics.state.lock();
        if let Some(waiting) = state.waiting.get_mut(self.topic) {
            waiting.remove(&self.number);
            if waiting.is_empty() {
                state.waiting.remove(self.topic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const BOUNDS: Bounds = Bounds {
        topics: 2,
        messages: 3,
        bytes: 10,
    };

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Alarm for Bell {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(topics: &Topics<Bell>, topic: &str, since: u64) -> Option<(u64, usize, bool)> {
        let news = topics.seat(topic, &Arc::default()).news_or_wait(since)?;
        Some((news.message.number, news.message.body.len(), news.gap))
    }

    #[test]
    fn a_reader_gets_every_retained_message_in_order_and_is_told_of_a_gap() {
        let (topics, now) = (Topics::new(), Instant::ZERO);
        for length in 1..=4 {
            topics.publish("a", vec![0; length], BOUNDS, now).unwrap();
        }
        // Bounds: 1 went for the number of messages; 2 + 3 + 4 bytes are within 10.
        assert_eq!(
            read(&topics, "a", 0),
            Some((2, 2, false)),
            "who asks for all has missed nothing"
        );
        assert_eq!(read(&topics, "a", 2), Some((3, 3, false)));
        topics.publish("a", vec![0; 9], BOUNDS, now).unwrap();
        assert_eq!(read(&topics, "a", 2), Some((5, 9, true)));
        assert_eq!(read(&topics, "a", 5), None);
        assert_eq!(
            topics.counts(),
            Counts {
                topics: 1,
                messages: 1,
                bytes: 9,
                last_number: 5
            }
        );
    }

    #[test]
    fn news_rings_every_waiting_seat_of_its_topic_once() {
        let (topics, now) = (Topics::new(), Instant::ZERO);
        let (here, there) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let seats = [
            topics.seat("a", &here),
            topics.seat("a", &here),
            topics.seat("b", &there),
        ];
        assert!(seats.iter().all(|seat| seat.news_or_wait(0).is_none()));
        topics.publish("a", vec![1], BOUNDS, now).unwrap();
        topics.publish("a", vec![2], BOUNDS, now).unwrap();
        assert_eq!(
            here.0.load(Ordering::Relaxed),
            2,
            "a woken seat asks again before it is rung again"
        );
        assert_eq!(there.0.load(Ordering::Relaxed), 0);
        drop(seats);
        assert!(topics.state.lock().waiting.is_empty());
    }

    #[test]
    fn what_does_not_fit_the_bounds_is_refused() {
        let (topics, now) = (Topics::<Bell>::new(), Instant::ZERO);
        assert!(topics.publish("a", vec![0; 8], BOUNDS, now).is_ok());
        assert_eq!(
            topics
                .publish("b", vec![0; 3], BOUNDS, now)
                .unwrap_err()
                .status,
            507
        );
        assert!(topics.publish("b", vec![0; 2], BOUNDS, now).is_ok());
        assert_eq!(
            topics.publish("c", vec![], BOUNDS, now).unwrap_err().status,
            507
        );
        assert_eq!(
            topics
                .publish("a", vec![0; 9], BOUNDS, now)
                .unwrap_err()
                .status,
            507
        );
        assert_eq!(
            read(&topics, "a", 0),
            Some((1, 8, false)),
            "a refusal costs no message"
        );
        assert_eq!(topics.publish("a", vec![0; 7], BOUNDS, now), Ok(3));
        assert_eq!(
            topics.counts(),
            Counts {
                topics: 2,
                messages: 2,
                bytes: 9,
                last_number: 3
            }
        );
    }

    #[test]
    fn a_forgotten_topic_gives_its_room_back_and_never_reuses_a_number() {
        let (topics, start) = (Topics::new(), Instant::ZERO);
        let idle = Duration::from_secs(5);
        let later = start.checked_add(idle).unwrap();
        topics.publish("a", vec![0; 4], BOUNDS, start).unwrap();
        topics.publish("b", vec![0; 4], BOUNDS, later).unwrap();
        assert_eq!(topics.forget_idle(idle, later), 1);
        assert_eq!(
            topics.counts(),
            Counts {
                topics: 1,
                messages: 1,
                bytes: 4,
                last_number: 2
            }
        );
        assert_eq!(topics.publish("a", vec![7], BOUNDS, later), Ok(3));
        assert_eq!(read(&topics, "a", 1), Some((3, 1, true)));
    }
}
