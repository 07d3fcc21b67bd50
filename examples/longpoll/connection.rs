//! One connection from its first byte to its last: request after request on one blocking thread.

use cleanbreak::CancelToken;

use super::body::Body;
use super::http::{Answer, Head, Refusal, parse_head, refuse};
use super::link::{Broken, Link};
use super::registry::Ticket;
use super::routes::{Place, Reply, STOPPING, respond};
use super::service::{Entry, Service, count};
use super::settings::Settings;

const FULL: Refusal = refuse(503, "there are too many connections");
const TOO_SLOW: Refusal = refuse(408, "the request took too long to arrive");

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Connection<'s> {
    pub(crate) service: &'s Service,
    pub(crate) link: Link,
    pub(crate) ticket: Ticket,
    /// Beyond the limit: the first request is answered 503, whatever it is.
    pub(crate) refused: bool,
}

/// What a request is handled under: settings change between requests, never within one.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'t> {
    pub(crate) settings: &'t Settings,
    pub(crate) token: &'t CancelToken,
}

/// How a request ended.
enum Turn {
    /// The connection takes the next one.
    Next,
    /// The connection is over.
    Last,
}

impl Connection<'_> {
    /// Serves until the client leaves, errs or is too slow, or the service stops.
    pub(crate) fn serve(mut self, token: &CancelToken) {
        'requests: loop {
            let settings = &self.service.live.current();
            match self.turn(Terms { settings, token }) {
                Turn::Next => continue 'requests,
                Turn::Last => break 'requests,
            }
        }
    }

    fn turn(&mut self, terms: Terms<'_>) -> Turn {
        let request = match self.receive(terms) {
            Ok(Some(request)) => request,
            Ok(None) => return Turn::Last,
            Err(refusal) => return self.turn_away(refusal, terms),
        };
        let asked = (request.head.last, request.head.method == "HEAD");
        let Some(reply) = self.answer(terms, request) else {
            count(&self.service.tally.hung_up);
            return Turn::Last;
        };
        // Read after the answer was made: no connection that saw the stop takes another request.
        let last = asked.0 || self.refused || terms.token.is_cancelled();
        let sent = self.send(&reply.answer, last, asked.1, terms);
        drop(reply.poll);
        match sent {
            Ok(()) if !last => Turn::Next,
            _ => Turn::Last,
        }
    }

    fn answer(&self, terms: Terms<'_>, request: Request) -> Option<Reply> {
        let refusal = match (terms.token.is_cancelled(), self.refused) {
            (true, _) => STOPPING,
            (_, true) => FULL,
            _ => {
                let place = Place {
                    service: self.service,
                    terms,
                    link: &self.link,
                    ticket: &self.ticket,
                };
                return respond(&place, request);
            }
        };
        Some(Reply {
            answer: refusal.into(),
            poll: None,
        })
    }

    /// Answers a request that could not be read to its end, and closes: nobody knows where the next
    /// one begins.
    fn turn_away(&mut self, refusal: Refusal, terms: Terms<'_>) -> Turn {
        if self.send(&refusal.into(), true, false, terms).is_ok() {
            let patience = terms.settings.write_deadline;
            let goodbye = terms.token.shield().child_timeout(patience);
            self.link.linger(&goodbye);
        }
        Turn::Last
    }

    /// Shielded: when the service stops, the answers are what is still to be done. The write
    /// deadline bounds it, and the shutdown cuts the socket of a client that does not read.
    fn send(
        &self,
        answer: &Answer,
        last: bool,
        to_head: bool,
        terms: Terms<'_>,
    ) -> Result<(), Broken> {
        let bytes = answer.encode(last, to_head);
        let writing = terms.token.shield();
        let writing = writing.child_timeout(terms.settings.write_deadline);
        self.link.send(&bytes, &writing)?;
        self.service.note(Entry {
            status: answer.status,
            bytes: bytes.len(),
        });
        Ok(())
    }

    /// The next request; `None` when the connection may be closed without a word.
    fn receive(&mut self, terms: Terms<'_>) -> Result<Option<Request>, Refusal> {
        if self.link.input.is_empty() {
            let idle = terms.token.child_timeout(terms.settings.idle_deadline);
            if self.link.fill(&idle).is_err() {
                return Ok(None);
            }
        }
        // One deadline for the whole head, however many bytes at a time it comes in.
        let reading = terms.token.child_timeout(terms.settings.read_deadline);
        let head = 'head: loop {
            match parse_head(&self.link.input, terms.settings.max_head)? {
                Some((head, length)) => {
                    self.link.input.drain(..length);
                    break 'head head;
                }
                None => match self.more(&reading)? {
                    true => continue 'head,
                    false => return Ok(None),
                },
            }
        };
        let body = self.receive_body(&head, terms)?;
        Ok(body.map(|body| Request { head, body }))
    }

    fn receive_body(&mut self, head: &Head, terms: Terms<'_>) -> Result<Option<Vec<u8>>, Refusal> {
        let mut body = Body::new(head.framing, terms.settings.max_body)?;
        let reading = terms.token.child_timeout(terms.settings.read_deadline);
        let mut invited = !head.expects_continue;
        'body: loop {
            if body.take(&mut self.link.input)? {
                break 'body Ok(Some(body.into_bytes()));
            }
            // A client that has sent some of the body already needs no invitation, and gets one.
            if !invited && self.link.send(CONTINUE, &reading).is_err() {
                break 'body Ok(None);
            }
            invited = true;
            if !self.more(&reading)? {
                break 'body Ok(None);
            }
        }
    }

    /// Reads more of a request that has begun; false when the client has gone.
    fn more(&mut self, reading: &CancelToken) -> Result<bool, Refusal> {
        match self.link.fill(reading) {
            Ok(()) => Ok(true),
            Err(Broken::Gone) => Ok(false),
            Err(Broken::Told(told)) if told.is_deadline() => Err(TOO_SLOW),
            Err(Broken::Told(_)) => Err(STOPPING),
        }
    }
}
