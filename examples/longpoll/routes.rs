//! From a request to an answer. A poll is answered when it has news, or when it has waited long
//! enough, or when the service stops; a poll whose client has gone is not answered at all.

use super::connection::{Request, Terms};
use super::http::{Answer, Refusal, parameter, refuse};
use super::link::{Broken, Link};
use super::registry::{PollInFlight, Ticket};
use super::service::Service;
use super::topics::{Bounds, News};

pub(crate) const STOPPING: Refusal = refuse(503, "the service is shutting down");

/// What to tell the client.
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    /// Held until the answer is sent: the shutdown counts on it.
    pub(crate) poll: Option<PollInFlight>,
}

/// Where a request is handled: everything of its connection that a route may use.
pub(crate) struct Place<'c> {
    pub(crate) service: &'c Service,
    pub(crate) terms: Terms<'c>,
    pub(crate) link: &'c Link,
    pub(crate) ticket: &'c Ticket,
}

/// `None` when the client has gone.
pub(crate) fn respond(place: &Place<'_>, request: Request) -> Option<Reply> {
    let (method, path) = (request.head.method.as_str(), request.head.path.as_str());
    let answer = match (path, method) {
        ("/poll", "GET") => return place.poll(&request.head.query),
        ("/publish", "POST") => place.publish(&request.head.query, request.body),
        ("/healthz", "GET") => Ok(Answer::text(200, "ok")),
        ("/stats", "GET") => Ok(Answer::new(200)
            .field("Content-Type", "application/json")
            .body(place.service.stats().into_bytes())),
        ("/poll" | "/healthz" | "/stats", _) => Ok(wrong_method("GET")),
        ("/publish", _) => Ok(wrong_method("POST")),
        _ => Err(refuse(404, "there is nothing here")),
    };
    Some(at_once(answer.unwrap_or_else(Answer::from)))
}

fn at_once(answer: Answer) -> Reply {
    Reply { answer, poll: None }
}

fn wrong_method(allowed: &str) -> Answer {
    Answer::from(refuse(405, "this path does not take that method")).field("Allow", allowed)
}

impl Place<'_> {
    fn publish(&self, query: &str, body: Vec<u8>) -> Result<Answer, Refusal> {
        let topic = topic_of(query)?;
        let now = self.terms.token.clock().now();
        let bounds = Bounds {
            topics: self.terms.settings.max_topics,
            messages: self.terms.settings.retain,
            bytes: self.terms.settings.max_retained,
        };
        let number = self.service.topics.publish(topic, body, bounds, now)?;
        Ok(Answer::text(200, number).field("X-Seq", number))
    }

    fn poll(&self, query: &str) -> Option<Reply> {
        match topic_of(query).and_then(|topic| Ok((topic, since_of(query)?))) {
            Ok((topic, since)) => self.wait_for_news(topic, since),
            Err(refusal) => Some(at_once(refusal.into())),
        }
    }

    /// The token of the wait is the connection's child: the shutdown and the poll's own deadline
    /// end it in the same way, and its kind tells which of them it was.
    fn wait_for_news(&self, topic: &str, since: u64) -> Option<Reply> {
        let poll = Some(self.ticket.poll());
        let wait = self
            .terms
            .token
            .child_timeout(self.terms.settings.poll_wait);
        let seat = self.service.topics.seat(topic, &self.link.news);
        let answer = 'waiting: loop {
            if let Some(news) = seat.news_or_wait(since) {
                break 'waiting tell(news);
            }
            match self.link.wait_for_news(&wait) {
                Ok(()) => continue 'waiting,
                Err(Broken::Gone) => return None,
                Err(Broken::Told(told)) if told.is_deadline() => break 'waiting Answer::new(204),
                Err(Broken::Told(_)) => break 'waiting STOPPING.into(),
            }
        };
        Some(Reply { answer, poll })
    }
}

fn tell(news: News) -> Answer {
    let answer = Answer::new(200).field("Content-Type", "application/octet-stream");
    let answer = answer
        .field("X-Seq", news.message.number)
        .body(news.message.body);
    if news.gap {
        answer.field("X-Gap", "true")
    } else {
        answer
    }
}

fn topic_of(query: &str) -> Result<&str, Refusal> {
    // The alphabet needs no percent-encoding, so a percent sign is a mistake like any other.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    parameter(query, "topic")?
        .filter(|topic| (1..=64).contains(&topic.len()) && topic.bytes().all(allowed))
        .ok_or(refuse(400, "`topic` must be 1 to 64 of A-Z a-z 0-9 . _ -"))
}

fn since_of(query: &str) -> Result<u64, Refusal> {
    let Some(text) = parameter(query, "since")? else {
        return Ok(0);
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or(refuse(400, "`since` must be a number"))
}
