//! Every point of the library: each fault that is listed for it happens there, and is survived.
#![cfg(unix)]

mod support;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use cleanbreak::backoff::Backoff;
use cleanbreak::chaos::{Fault, Plan, Point, is_injected, points};
use cleanbreak::interrupt::Interrupts;
use cleanbreak::io::wait_child;
use cleanbreak::leak::leak_check;
use cleanbreak::supervise::ChildSpec;
use cleanbreak::{
    Abandoner, AdaptiveLimit, Breaker, Bulkhead, CancelToken, Clock, GroupBuilder, Hedge,
    Interruptible, Policy, Pool, Probe, Quota, RateLimiter, Retry, SafeChannel, Shutdown,
    Supervisor, ThreadCache, Ticker, Timeout, scope,
};
use support::{in_time, millis, secs, until};

type Op = fn(&CancelToken) -> Result<u32>;

const OP: Op = |_| Ok(1);

/// Uses a part of the library so that all of its points are passed. What fails on the way does so because of
/// the fault.
fn visit(part: &str, token: &CancelToken) -> Result<()> {
    match part {
        "threads" | "sync" | "clock" => {
            let clock = Clock::isolated();
            let own = CancelToken::with_clock(&clock).child_timeout(millis(1));
            let _lease = clock.keep_timer()?;
            own.wait();
            token.child_timeout(millis(1)).wait();
            scope(token, |group| Ok(group.spawn(OP)?.join()?))?;
        }
        "cancel" => {
            let child = token.child();
            let hook = child.on_cancel(|| {});
            child.wait_timeout(Duration::ZERO);
            child.cancel();
            drop(hook);
        }
        "channel" => {
            let (tx, rx) = SafeChannel::bounded(1);
            tx.clone().send(1)?;
            assert_eq!(rx.recv()?, 1);
            assert!(tx.close());
            assert!(tx.send(2).is_err());
        }
        "ticker" => {
            let ticker = Ticker::new(millis(1))?;
            ticker.reset(millis(2))?;
            assert!(ticker.stop());
        }
        "io" => {
            let (reader, _writer) = std::io::pipe()?;
            let mut reader = Interruptible::new(reader, token);
            reader.set_timeout(Some(millis(1)));
            assert!(reader.read(&mut [0]).is_err());
            let mut child = Command::new("true").spawn()?;
            wait_child(&mut child, token).or_else(|_| child.wait())?;
        }
        "probe" => Probe::new("visited").pass(),
        "group" => visit_group(token)?,
        "pool" => {
            let pool: Pool = Pool::builder().workers(1).build(token)?;
            let job = pool
                .submit(OP)
                .map_err(|refused| anyhow::anyhow!("{refused}"))?;
            job.join().ok();
            assert_eq!(pool.shutdown(Shutdown::Drain).submitted(), 1);
        }
        "supervise" => {
            let child = ChildSpec::new("visited", |cx| {
                cx.ready();
                cx.token().wait();
                Ok(())
            });
            let supervisor = Supervisor::builder().child(child).on_event(|_| {});
            let supervisor = supervisor.backoff(Backoff::constant(millis(1)));
            supervisor
                .intensity(2, secs(9))
                .start(token)?
                .restart_child("visited")
                .ok();
        }
        "breaker" => drop(Breaker::builder().build()?.call(token, OP)),
        "bulkhead" => drop(Bulkhead::new(1).acquire(token)?),
        "rate_limit" => RateLimiter::new(Quota::per_second(1)).try_acquire()?,
        "retry" => drop(Retry::builder().build()?.call(token, OP)),
        "timeout" => drop(Timeout::new(secs(9)).call(token, OP)),
        "hedge" => drop(Hedge::after(secs(9)).build().call(token, OP)),
        "abandon" => drop(
            Abandoner::builder()
                .build()
                .abandon_after(token, secs(9), OP),
        ),
        "adaptive" => AdaptiveLimit::aimd().build().acquire(token)?.success(),
        "policy" => drop(Policy::builder().build()?.call(token, OP)),
        "interrupt" => drop(Interrupts::subscribe(&[libc::SIGUSR2])?),
        "leak" => leak_check().finish()?,
        _ => visit_view(part, token)?,
    }
    Ok(())
}

fn visit_group(token: &CancelToken) -> Result<()> {
    let cache = ThreadCache::new();
    let group = GroupBuilder::new().cache(&cache);
    group.scope(token, |group| {
        let task = group.spawn(OP)?;
        task.join()?;
        group.spawn(|_| -> Result<()> { bail!("on purpose") })?;
        Ok(())
    })
}

/// The parts that look at the others.
fn visit_view(part: &str, token: &CancelToken) -> Result<()> {
    #[cfg(feature = "diagnose")]
    if part == "diagnose" {
        drop(cleanbreak::diagnose::ThreadDump::capture());
        return Ok(());
    }
    #[cfg(feature = "debug-http")]
    if part == "debug" {
        use std::io::Write;
        let server = cleanbreak::debug::DebugServer::builder()
            .bind("127.0.0.1:0")
            .start(token)?;
        let mut client = std::net::TcpStream::connect(server.local_addr())?;
        write!(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        client.read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    panic!("nobody visits {part} {token:?}")
}

fn part(point: &Point) -> &'static str {
    point.name.split('.').next().unwrap()
}

/// Whether the part is built in.
fn is_there(point: &Point) -> bool {
    let built = [
        ("diagnose", cfg!(feature = "diagnose")),
        ("debug", cfg!(feature = "debug-http")),
    ];
    !built.contains(&(part(point), false))
}

fn survive(point: &Point, fault: Fault) {
    let leaks = leak_check();
    let stop = CancelToken::new();
    let plan = Plan::seeded(1).at(point.name, fault, 1).cancels(&stop);
    let plan = plan.delays_up_to(millis(1)).late_by_up_to(millis(2));
    let chaos = plan.jumps_up_to(millis(2)).start().unwrap();
    until(|| {
        // Its own each time, as the stop may have been told.
        let token = if fault == Fault::Cancel {
            stop.child()
        } else {
            CancelToken::new()
        };
        let ended = catch_unwind(AssertUnwindSafe(|| visit(part(point), &token)));
        match ended {
            Ok(Err(error)) => {
                let meant = matches!(fault, Fault::Refuse | Fault::Cancel | Fault::Panic);
                let own = point.name.starts_with("group") && error.to_string() == "on purpose";
                assert!(meant || own, "{fault} at {}: {error:#}", point.name);
            }
            Err(payload) => {
                assert_eq!(fault, Fault::Panic, "{}: {payload:?}", point.name);
                assert!(is_injected(&*payload), "{}", point.name);
            }
            Ok(Ok(())) => {}
        }
        chaos.report().count(point.name, fault) > 0
    });
    let report = chaos.finish();
    assert_eq!(report.total(), report.count(point.name, fault), "{report}");
    assert_eq!(stop.is_cancelled(), fault == Fault::Cancel);
    leaks.finish().unwrap();
}

#[test]
fn every_fault_that_is_listed_happens_at_its_point_and_is_survived() {
    for point in points().iter().filter(|point| is_there(point)) {
        for fault in point.faults.iter().copied() {
            in_time(move || survive(point, fault));
        }
    }
}

#[test]
fn the_points_have_names_of_their_own_and_faults() {
    let mut names: Vec<_> = points().iter().map(|point| point.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), points().len());
    assert!(points().iter().all(|point| !point.faults.is_empty()));
    for fault in Fault::ALL {
        assert!(
            points().iter().any(|point| point.faults.contains(&fault)),
            "{fault}"
        );
    }
}
