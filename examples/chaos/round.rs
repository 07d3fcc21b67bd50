//! One round: the weather, the service in it, and what must hold afterwards.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cleanbreak::chaos::{Fault, Plan, Report, is_injected};
use cleanbreak::leak::leak_check;
use cleanbreak::{CancelToken, Clock};
use crossbeam_channel::Sender;
use fastrand::Rng;

use crate::ledger::{Failure, Ledger};
use crate::options::Options;
use crate::service::{Service, is_over};
use crate::watch::Watched;

/// A round in which everything held.
pub(crate) struct Passed {
    pub(crate) report: Report,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// A round in which something did not.
pub(crate) struct Failed {
    pub(crate) broken: Vec<String>,
    pub(crate) report: Report,
}

pub(crate) fn run(options: &Options, round: u64, told: &Sender<Watched>) -> Result<Passed, Failed> {
    let mixed = options.seed.rotate_left(32) ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut rng = Rng::with_seed(mixed);
    let leaks = leak_check().patience(options.patience.min(Duration::from_secs(10)));
    let ledger = Arc::new(Ledger::default());
    let stop = CancelToken::new();
    let chaos = weather(&mut rng, &stop)
        .start()
        .expect("a plan that can be");
    let reporter = chaos.reporter();
    let clock = match rng.u8(..3) {
        0 => Clock::isolated(), // which may leap
        _ => Clock::system(),
    };
    let root = root(&mut rng, &stop, &clock);
    let (token, stopped) = (stop.clone(), root.done().clone());
    let watched = Watched {
        token,
        stopped,
        reporter,
    };
    told.send(watched).ok();
    let service = Service::new(&mut rng, &root, &clock, &ledger, options.plant);
    let ended = catch_unwind(AssertUnwindSafe(|| service.run(&mut rng)));
    let told_to_stop = is_over(&root);
    judge(&ledger, ended, told_to_stop);
    service.end(&mut rng);
    let report = chaos.finish();
    service.check_calm();
    drop((service, root, clock));
    if let Err(leaked) = leaks.finish() {
        ledger.broken(leaked.to_string());
    }
    match ledger.close() {
        (broken, counts) if broken.is_empty() => Ok(Passed { report, counts }),
        (broken, _) => Err(Failed { broken, report }),
    }
}

/// How bad a day it is.
fn weather(rng: &mut Rng, stop: &CancelToken) -> Plan {
    let mut plan = Plan::seeded(rng.u64(..))
        .everywhere(Fault::Delay, rng.u32(10..60))
        .everywhere(Fault::Early, rng.u32(2..10))
        .everywhere(Fault::Late, rng.u32(2..6))
        .everywhere(Fault::Jump, rng.u32(4..20))
        .delays_up_to(Duration::from_micros(rng.u64(100..1000)))
        .late_by_up_to(Duration::from_millis(rng.u64(1..4)))
        .jumps_up_to(Duration::from_millis(20))
        .cancels(stop);
    if rng.bool() {
        plan = plan.everywhere(Fault::Panic, rng.u32(20..60));
    }
    if rng.u8(..3) == 0 {
        plan = plan.at("threads.spawn", Fault::Refuse, rng.u32(4..20));
    }
    if rng.u8(..3) == 0 {
        plan = plan.everywhere(Fault::Cancel, rng.u32(50..400));
    }
    plan.at("consumer.step", Fault::Panic, 400)
        .at("service.call", Fault::Refuse, rng.u32(2..8))
        .at("service.task", Fault::Refuse, 5)
        .at("service.child", Fault::Refuse, 10)
}

/// The token of the whole service: below the one that is cancelled from outside, and maybe with a
/// deadline of its own.
fn root(rng: &mut Rng, stop: &CancelToken, clock: &Clock) -> CancelToken {
    let own = CancelToken::with_clock(clock);
    let root = CancelToken::linked(&[&own, stop]);
    match rng.u8(..4) {
        0 => root.child_timeout(Duration::from_micros(rng.u64(500..10_000))),
        _ => root.child(),
    }
}

type Ended = Result<Option<anyhow::Error>, Box<dyn std::any::Any + Send>>;

/// Whether what the service came to is the truth (G2, G3).
fn judge(ledger: &Ledger, ended: Ended, told_to_stop: bool) {
    let failures = ledger.failures();
    match ended {
        Err(payload) if is_injected(&*payload) => ledger.count("rounds ended by a panic", 1),
        Err(payload) => {
            let text = payload.downcast_ref::<String>().cloned();
            let text = text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
            ledger.broken(format!("a panic that nobody planned: {text:?}"));
        }
        Ok(None) => {
            ledger.count("rounds that ended well", 1);
            ledger.check(failures.is_empty(), || {
                format!("failures {failures:?} are lost: the group returned Ok")
            });
        }
        Ok(Some(error)) => match error.downcast_ref::<Failure>() {
            Some(Failure(number)) => {
                ledger.count("rounds ended by an error", 1);
                let real = failures.contains(number);
                ledger.check(real, || format!("nobody had failure {number}"));
            }
            None => {
                ledger.count("rounds that were cancelled", 1);
                // Nobody returns "cancelled" but who was told, from outside or by a failure before.
                ledger.check(told_to_stop, || {
                    format!("the first error is \"{error:#}\", but nobody cancelled; failures {failures:?}")
                });
            }
        },
    }
}
