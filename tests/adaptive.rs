//! The adaptive limit against a simulated server on the manual clock: it finds the knee, backs off,
//! recovers, and never leaves its bounds.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use cleanbreak::clock::Instant;
use cleanbreak::resilience::{
    AdaptiveLimit, AdaptiveLimitBuilder, AdaptiveOutcome, AdaptivePermit,
};
use cleanbreak::{CancelToken, Clock, ManualClock};
use support::{in_time, millis, payload_of, rng, secs};

/// A server that works on `capacity` calls at a time, each for `service`: with more, they share it,
/// and latencies grow in proportion. Beyond `turns_away`, it refuses at once.
struct Server {
    capacity: f64,
    service: Duration,
    turns_away: usize,
}

impl Server {
    fn new(capacity: usize, service: Duration) -> Self {
        Self {
            capacity: capacity as f64,
            service,
            turns_away: usize::MAX,
        }
    }

    /// How long the `n`th call at a time takes, give or take a tenth; `None` if it is turned away.
    fn latency(&self, n: usize, rng: &mut fastrand::Rng) -> Option<Duration> {
        let crowd = (n as f64 / self.capacity).max(1.0);
        let noise = 0.9 + 0.2 * rng.f64();
        (n <= self.turns_away).then(|| self.service.mul_f64(crowd * noise))
    }
}

/// Clients that make as many calls as they may.
struct Clients<'a> {
    clock: &'a ManualClock,
    limit: &'a AdaptiveLimit,
    /// As many calls at a time as they would make without a limit.
    wanted: usize,
    rng: fastrand::Rng,
    /// By the time of their end; the number keeps those of one time apart.
    running: BTreeMap<(Instant, u64), (AdaptivePermit<'a>, AdaptiveOutcome)>,
    number: u64,
    /// The limits over time, of the last run.
    limits: Vec<usize>,
}

impl<'a> Clients<'a> {
    fn new(clock: &'a ManualClock, limit: &'a AdaptiveLimit, rng: &mut fastrand::Rng) -> Self {
        Self {
            clock,
            limit,
            wanted: usize::MAX,
            rng: rng.fork(),
            running: BTreeMap::new(),
            number: 0,
            limits: Vec::new(),
        }
    }

    /// Calls `server` for so long.
    fn run(&mut self, server: &Server, time: Duration) {
        let end = self.clock.now().checked_add(time).unwrap();
        self.limits.clear();
        while self.clock.now() < end {
            while self.running.len() < self.wanted
                && let Ok(permit) = self.limit.try_acquire()
            {
                let (latency, outcome) = match server.latency(self.running.len() + 1, &mut self.rng)
                {
                    Some(latency) => (latency, AdaptiveOutcome::Success),
                    None => (server.service / 10, AdaptiveOutcome::Overloaded),
                };
                let end = self.clock.now().checked_add(latency).unwrap();
                self.number += 1;
                self.running.insert((end, self.number), (permit, outcome));
            }
            let ((end, _), (permit, outcome)) = self.running.pop_first().unwrap();
            self.clock.advance_to(end);
            permit.report(outcome);
            self.limits.push(self.limit.limit());
        }
    }

    fn mean(&self) -> f64 {
        self.limits.iter().sum::<usize>() as f64 / self.limits.len() as f64
    }

    fn bounds(&self) -> (usize, usize) {
        let (min, max) = (self.limits.iter().min(), self.limits.iter().max());
        (*min.unwrap(), *max.unwrap())
    }
}

fn build(builder: AdaptiveLimitBuilder, clock: &ManualClock) -> AdaptiveLimit {
    builder.clock(clock).build()
}

#[test]
fn the_gradient_converges_near_the_knee_from_below_and_from_above() {
    let mut rng = rng("gradient");
    in_time(move || {
        for (capacity, initial) in [(50, 5), (50, 190), (10, 20), (100, 20)] {
            let clock = Clock::manual();
            let limit = build(AdaptiveLimit::gradient().initial(initial), &clock);
            let mut clients = Clients::new(&clock, &limit, &mut rng);
            let server = Server::new(capacity, millis(50));
            clients.run(&server, secs(40));
            // Through many probes more: it does not creep away.
            for _ in 0..3 {
                clients.run(&server, secs(20));
                let (knee, mean) = (capacity as f64, clients.mean());
                assert!(
                    (knee..1.2 * knee + 2.0 * knee.sqrt()).contains(&mean),
                    "{mean} for a knee of {knee}"
                );
            }
        }
    });
}

#[test]
fn the_gradient_follows_a_server_that_changes() {
    let mut rng = rng("gradient follows");
    in_time(move || {
        let clock = Clock::manual();
        let limit = build(AdaptiveLimit::gradient(), &clock);
        let mut clients = Clients::new(&clock, &limit, &mut rng);
        for (capacity, service) in [(50, 50), (15, 50), (60, 50), (60, 150), (60, 20)] {
            let server = Server::new(capacity, millis(service));
            clients.run(&server, secs(30));
            clients.run(&server, secs(20));
            let (knee, mean) = (capacity as f64, clients.mean());
            assert!(
                (0.9 * knee..1.2 * knee + 2.0 * knee.sqrt()).contains(&mean),
                "{mean} for a knee of {knee} at {service} ms"
            );
        }
    });
}

#[test]
fn aimd_saws_below_the_point_where_calls_are_turned_away() {
    let mut rng = rng("aimd");
    in_time(move || {
        let clock = Clock::manual();
        let limit = build(AdaptiveLimit::aimd().initial(20), &clock);
        let mut clients = Clients::new(&clock, &limit, &mut rng);
        let mut server = Server::new(1000, millis(50));
        server.turns_away = 40;
        clients.run(&server, secs(60));
        clients.run(&server, secs(60));
        let (min, max) = clients.bounds();
        assert!((18..=21).contains(&min), "half of 40: {min}");
        assert!((40..=42).contains(&max), "{max}");
    });
}

#[test]
fn aimd_takes_slow_successes_for_overload_if_told_so() {
    let mut rng = rng("aimd slow");
    in_time(move || {
        let clock = Clock::manual();
        let aimd = AdaptiveLimit::aimd().overload_above(millis(100));
        let limit = build(aimd, &clock);
        let mut clients = Clients::new(&clock, &limit, &mut rng);
        // 100 ms, less a tenth, at 1.8 times the knee.
        clients.run(&Server::new(30, millis(50)), secs(60));
        let (min, max) = clients.bounds();
        assert!(min >= 10 && max <= 67, "{min} to {max}");
        assert!((30.0..60.0).contains(&clients.mean()), "{}", clients.mean());
    });
}

#[test]
fn overload_halves_once_for_a_volley_and_again_for_the_next() {
    for builder in [AdaptiveLimit::aimd(), AdaptiveLimit::gradient()] {
        let clock = Clock::manual();
        let limit = build(builder.initial(80).min(3), &clock);
        let volley = |count: usize| -> Vec<_> {
            let permits = (0..count).map(|_| limit.try_acquire().unwrap()).collect();
            clock.advance(millis(10));
            permits
        };
        volley(80).into_iter().for_each(AdaptivePermit::overloaded);
        assert_eq!(limit.limit(), 40);
        volley(40).into_iter().for_each(AdaptivePermit::overloaded);
        assert_eq!(limit.limit(), 20);
        for expected in [10, 5, 3, 3] {
            volley(1).into_iter().for_each(AdaptivePermit::overloaded);
            assert_eq!(limit.limit(), expected, "not below the minimum");
        }
    }
}

#[test]
fn it_recovers_after_an_overload_and_not_beyond_its_maximum() {
    let mut rng = rng("recovers");
    in_time(move || {
        for builder in [AdaptiveLimit::aimd(), AdaptiveLimit::gradient()] {
            let clock = Clock::manual();
            let limit = build(builder.initial(40).min(2).max(60), &clock);
            let mut clients = Clients::new(&clock, &limit, &mut rng);
            let mut server = Server::new(500, millis(20));
            server.turns_away = 0;
            clients.run(&server, secs(2));
            assert_eq!(limit.limit(), 2, "an outage");
            server.turns_away = usize::MAX;
            clients.run(&server, secs(30));
            let (min, max) = clients.bounds();
            assert_eq!((min, max), (2, 60), "back at the top");
        }
    });
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    let mut rng = rng("unused");
    in_time(move || {
        for (wanted, grows) in [(9, false), (10, true)] {
            for builder in [AdaptiveLimit::aimd(), AdaptiveLimit::gradient()] {
                let clock = Clock::manual();
                let limit = build(builder.initial(20), &clock);
                let mut clients = Clients::new(&clock, &limit, &mut rng);
                clients.wanted = wanted;
                clients.run(&Server::new(500, millis(20)), secs(5));
                assert_eq!(limit.limit() > 20, grows, "{wanted} of 20");
            }
        }
    });
}

#[test]
fn a_window_ends_at_its_time_and_not_before_it_has_its_samples() {
    let grown = |samples: u32, advance: Duration| {
        let clock = Clock::manual();
        let aimd = AdaptiveLimit::aimd().initial(1).window(millis(100), 5);
        let limit = build(aimd, &clock);
        for n in 0..samples {
            if n + 1 == samples {
                clock.advance(advance);
            }
            limit.try_acquire().unwrap().success();
        }
        limit.limit()
    };
    let before = millis(100) - Duration::from_nanos(1);
    assert_eq!(grown(5, before), 1);
    assert_eq!(grown(5, millis(100)), 2);
    assert_eq!(grown(4, millis(100)), 1);
    assert_eq!(grown(4, secs(100)), 1);
}

#[test]
fn errors_panics_and_permits_dropped_without_a_word_say_nothing() {
    let clock = Clock::manual();
    let limit = build(
        AdaptiveLimit::aimd().initial(2).window(Duration::ZERO, 1),
        &clock,
    );
    let token = CancelToken::with_clock(&clock);
    assert!(limit.call(&token, |_| Err::<(), _>("bad request")).is_err());
    drop(limit.try_acquire().unwrap());
    payload_of(|| limit.call(&token, |_| -> Result<(), ()> { panic!("bug") }));
    limit
        .try_acquire()
        .unwrap()
        .report(AdaptiveOutcome::Ignored);
    assert_eq!((limit.limit(), limit.in_use()), (2, 0));
    // And then one that does.
    assert_eq!(limit.call(&token, |_| Ok::<_, ()>(7)).unwrap(), 7);
    assert_eq!((limit.limit(), limit.in_use()), (3, 0));
}

#[test]
fn it_waits_in_order_and_ends_as_a_bulkhead_does() {
    in_time(|| {
        let clock = Clock::manual();
        let aimd = AdaptiveLimit::aimd().initial(1).queue(1);
        let limit = build(aimd.window(Duration::ZERO, 1), &clock);
        let token = CancelToken::with_clock(&clock);
        let permit = limit.acquire(&token).unwrap();
        assert!(limit.try_acquire().unwrap_err().is_full());
        std::thread::scope(|s| {
            let waiter = s.spawn(|| limit.acquire(&token).map(drop));
            support::until(|| limit.waiting() == 1);
            assert!(limit.acquire(&token).unwrap_err().is_full());
            permit.success(); // one more, and this one
            assert!(waiter.join().unwrap().is_ok());
        });
        assert_eq!((limit.limit(), limit.in_use()), (2, 0));
        let held = [
            limit.acquire(&token).unwrap(),
            limit.acquire(&token).unwrap(),
        ];
        let late = limit.acquire_timeout(&token, Duration::ZERO);
        assert!(late.unwrap_err().is_timeout());
        assert!(limit.close());
        assert!(limit.acquire(&token).unwrap_err().is_closed());
        drop(held);
        token.cancel();
        assert!(limit.acquire(&token).unwrap_err().is_cancelled());
    });
}

/// Whatever comes: random outcomes and latencies, with clocks that leap and stand still.
#[test]
fn it_never_leaves_its_bounds() {
    let mut rng = rng("bounds");
    in_time(move || {
        for _ in 0..200 {
            let clock = Clock::manual();
            let (min, max) = (rng.usize(1..10), rng.usize(10..100));
            let initial = rng.usize(min..=max);
            let builder = match rng.bool() {
                true => AdaptiveLimit::aimd(),
                false => AdaptiveLimit::gradient()
                    .tolerance(1.0 + rng.f64())
                    .probe_every(3),
            };
            let builder = builder
                .min(min)
                .max(max)
                .initial(initial)
                .backoff(rng.f64());
            let limit = build(
                builder.window(millis(rng.u64(0..20)), rng.u32(1..5)),
                &clock,
            );
            let mut held = Vec::new();
            for _ in 0..1000 {
                held.extend(limit.try_acquire().ok());
                clock.advance(Duration::from_nanos(rng.u64(0..10_000_000)));
                if held.is_empty() {
                    continue;
                }
                let permit = held.swap_remove(rng.usize(0..held.len()));
                match rng.u32(0..8) {
                    0 => permit.overloaded(),
                    1 => drop(permit),
                    _ => permit.success(),
                }
                assert!((min..=max).contains(&limit.limit()));
                assert_eq!(limit.in_use(), held.len());
            }
        }
    });
}

#[test]
fn settings_that_make_no_sense_are_refused_with_a_message() {
    let refused = |builder: AdaptiveLimitBuilder| {
        let payload = payload_of(|| builder.build());
        *payload.downcast::<String>().unwrap()
    };
    let aimd = AdaptiveLimit::aimd;
    assert!(refused(aimd().min(0)).contains("1 <= min <= initial <= max"));
    assert!(refused(aimd().min(21)).contains("not 21, 20, 200"));
    assert!(refused(aimd().max(19)).contains("not 1, 20, 19"));
    assert!(refused(aimd().max(usize::MAX)).contains("2^30"));
    assert!(refused(aimd().backoff(1.5)).contains("back-off"));
    assert!(refused(AdaptiveLimit::gradient().tolerance(0.9)).contains("tolerance"));
    assert!(refused(AdaptiveLimit::gradient().tolerance(f64::NAN)).contains("tolerance"));
    // Of no use to it, and harmless.
    assert_eq!(aimd().tolerance(0.0).probe_every(0).build().limit(), 20);
}

/// The negative control: without a limit that adapts, the latencies are what the queue makes them.
#[test]
fn without_it_the_clients_sit_far_beyond_the_knee() {
    let mut rng = rng("fixed");
    in_time(move || {
        let clock = Clock::manual();
        let fixed = AdaptiveLimit::aimd().initial(200).min(200).max(200);
        let limit = build(fixed, &clock);
        let mut clients = Clients::new(&clock, &limit, &mut rng);
        clients.run(&Server::new(50, millis(50)), secs(60));
        assert_eq!(clients.bounds(), (200, 200));
    });
}
