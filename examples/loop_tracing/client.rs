//! Sends one request of the exporter, with retries, from the batch processor's own thread: blocking,
//! no async runtime, and stopped by a token. The SDK's own retries sleep where nobody can wake them.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cleanbreak::backoff::Backoff;
use cleanbreak::{CancelToken, Registration};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use ureq::Agent;

use super::tally::Tally;

/// Nothing interrupts a connect, so it has a bound of its own. (Nor the lookup of a name, for which
/// ureq starts a thread; an address needs none.)
pub(crate) const CONNECT: Duration = Duration::from_secs(1);

/// After the first attempt.
const RETRIES: usize = 3;

const FIRST_DELAY: Duration = Duration::from_millis(100);

/// An answer is a few bytes; a longer one is not from a collector.
const LONGEST_ANSWER: u64 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// For one export, its retries included.
    timeout: Duration,
    stop: CancelToken,
    tally: Arc<Tally>,
    /// Closes the sockets, so that a blocked read ends at once.
    _hang_up: Registration,
}

impl Client {
    pub(crate) fn new(timeout: Duration, stop: &CancelToken, tally: &Arc<Tally>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None) // the collector is meant to be near
            .timeout_connect(Some(CONNECT))
            .build();
        let agent = Agent::new_with_config(config);
        let sockets = agent.clone();
        Self {
            agent,
            timeout,
            stop: stop.clone(),
            tally: tally.clone(),
            _hang_up: stop.on_cancel(move || sockets.shutdown()),
        }
    }

    fn send(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let budget = self.stop.child_timeout(self.timeout);
        let mut delays = Backoff::exponential(FIRST_DELAY).delays().take(RETRIES);
        'attempts: loop {
            let answer = self.attempt(request, &budget);
            self.note(&answer);
            if !worth_another(&answer) {
                break 'attempts answer;
            }
            let Some(delay) = delays.next() else {
                break 'attempts answer;
            };
            if budget.sleep(delay.max(asked_for(&answer))).is_err() {
                break 'attempts answer;
            }
        }
    }

    fn attempt(
        &self,
        request: &Request<Bytes>,
        budget: &CancelToken,
    ) -> Result<Response<Bytes>, HttpError> {
        budget.check()?;
        let timed = self
            .agent
            .configure_request(request.clone().map(|body| body.to_vec()));
        // Zero would be no limit.
        let left = budget
            .remaining()
            .map(|left| left.max(Duration::from_millis(1)));
        let timed = timed.timeout_global(left).build();
        let answer = self.agent.run(timed);
        // A socket that was closed under the read: say why, not what it looked like.
        if let Some(cancelled) = self.stop.cancelled() {
            return Err(cancelled.into());
        }
        let (head, body) = answer?.into_parts();
        let body = body
            .into_with_config()
            .limit(LONGEST_ANSWER)
            .read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }

    /// For the report. The exporter hands on less: a "network error", and the success of a request
    /// of which the collector has refused a part.
    fn note(&self, answer: &Result<Response<Bytes>, HttpError>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.tally.blame(error),
        };
        if !answer.status().is_success() {
            return self
                .tally
                .blame(&format_args!("answered {}", answer.status()));
        }
        let part = ExportTraceServiceResponse::decode(answer.body().clone());
        let part = part.ok().and_then(|answer| answer.partial_success);
        if let Some(part) = part.filter(|part| part.rejected_spans > 0) {
            self.tally.reject(part.rejected_spans.unsigned_abs());
            self.tally.blame(&part.error_message);
        }
    }
}

/// What OTLP says may be tried again.
fn worth_another(answer: &Result<Response<Bytes>, HttpError>) -> bool {
    match answer {
        Ok(answer) => matches!(answer.status().as_u16(), 429 | 502 | 503 | 504),
        Err(_) => true, // of a stop, the next wait is told
    }
}

/// The wait that the collector asks for.
fn asked_for(answer: &Result<Response<Bytes>, HttpError>) -> Duration {
    let header = answer.as_ref().ok().and_then(|answer| {
        let header = answer.headers().get("retry-after")?;
        header.to_str().ok()?.trim().parse().ok()
    });
    Duration::from_secs(header.unwrap_or(0))
}

impl HttpClient for Client {
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(ready(self.send(&request)))
    }
}
