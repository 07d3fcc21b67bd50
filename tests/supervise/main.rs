//! Supervised loops: who is restarted, when, and what can be asked of a supervisor (P3).

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own"
)]

mod calls;
mod contained;
mod intensity;
mod restart;
mod start;
#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use anyhow::bail;
use cleanbreak::backoff::Backoff;
use cleanbreak::supervise::{
    ChildEnd, ChildErrorKind, ChildInfo, ChildState, Context, Event, Restart, StartErrorKind,
    StopReason, Strategy, SupervisorBuilder,
};
use cleanbreak::{CancelKind, CancelToken, ChildSpec, Clock, ManualClock, Supervisor, scope};
use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use support::{in_time, live_named, secs, until, until_waiting};

/// A supervisor whose events come on a channel, in words. Constant delays of ten seconds.
fn builder() -> (SupervisorBuilder, Receiver<String>) {
    let (tx, events) = unbounded();
    let builder = Supervisor::builder()
        .backoff(Backoff::constant(secs(10)))
        .on_event(move |event| drop(tx.send(event.to_string())));
    (builder, events)
}

fn manual() -> (ManualClock, CancelToken) {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    (clock, token)
}

/// Does what it is told until it is to stop.
fn obedient(name: &str) -> (ChildSpec, Sender<&'static str>) {
    let (tx, orders) = unbounded();
    let body = move |cx: &Context| {
        cx.ready();
        select! {
            recv(cx.token().done()) -> _ => Ok(()),
            recv(orders) -> order => obey(cx, order?),
        }
    };
    (ChildSpec::new(name, body), tx)
}

fn obey(cx: &Context, order: &str) -> anyhow::Result<()> {
    match order {
        "return" => Ok(()),
        "fail" => bail!("disk full"),
        "panic" => std::panic::resume_unwind(Box::new("bug")),
        "say cancelled" => {
            let other = CancelToken::new();
            other.cancel_with("somebody else's");
            Ok(other.check()?)
        }
        "cancel and return" => {
            cx.token().cancel_with("enough");
            Ok(())
        }
        "cancel and fail" => {
            cx.token().cancel();
            bail!("disk full")
        }
        "cancel and panic" => {
            cx.token().cancel();
            std::panic::resume_unwind(Box::new("bug"))
        }
        other => panic!("no such order: {other}"),
    }
}

fn stay(name: &str) -> ChildSpec {
    ChildSpec::new(name, |cx| {
        cx.ready();
        cx.token().wait();
        Ok(())
    })
}

/// Never says that it is ready.
fn mute(name: &str) -> ChildSpec {
    ChildSpec::new(name, |cx| {
        cx.token().wait();
        Ok(())
    })
}

type Body = fn(&Context) -> anyhow::Result<()>;

fn state_of(supervisor: &Supervisor, name: &str) -> ChildInfo {
    supervisor.report().child(name).unwrap().clone()
}

fn expect(events: &Receiver<String>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(&events.recv().unwrap(), expected);
    }
}

/// Panics when it is dropped.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("in a destructor"));
    }
}
