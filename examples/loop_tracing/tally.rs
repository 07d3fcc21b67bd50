//! What became of every span. The SDK itself does not tell: its shutdown says "ok" when all were
//! lost, and its own counters cannot be asked.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use std::sync::Arc;

/// Counts for a report. They are read when the exporting thread has been joined, which orders them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    ended: AtomicU64,
    delivered: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    why: Mutex<Option<String>>,
}

impl Tally {
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// In a request that was answered with success.
    pub(crate) fn delivered(&self) -> u64 {
        let answered = self.delivered.load(Ordering::Relaxed);
        answered.saturating_sub(self.rejected())
    }

    /// Of those, what the collector would not have.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// In a request that failed.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn reject(&self, spans: u64) {
        self.rejected.fetch_add(spans, Ordering::Relaxed);
    }

    /// Keeps the latest reason: the first may be long over.
    pub(crate) fn blame(&self, why: &dyn fmt::Display) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
    }

    pub(crate) fn why(&self) -> Option<String> {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.clone()
    }
}

/// Counts the spans that end, before the queue of the processor behind it, which drops what it has
/// no place for.
#[derive(Debug)]
pub(crate) struct Ended<P> {
    pub(crate) next: P,
    pub(crate) tally: Arc<Tally>,
}

impl<P: SpanProcessor> SpanProcessor for Ended<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.tally.ended.fetch_add(1, Ordering::Relaxed);
        self.next.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// Counts what was exported and what was lost on the way.
#[derive(Debug)]
pub(crate) struct Exported<X> {
    pub(crate) next: X,
    pub(crate) tally: Arc<Tally>,
}

impl<X: SpanExporter> SpanExporter for Exported<X> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let result = self.next.export(batch).await;
        let count = match &result {
            Ok(()) => &self.tally.delivered,
            Err(_) => &self.tally.failed,
        };
        count.fetch_add(spans, Ordering::Relaxed);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}
