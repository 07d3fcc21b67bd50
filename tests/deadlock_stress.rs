//! Thousands of looks for deadlocks at a system that moves: not one is named. Then one is planted in
//! its midst, and that is.
//!
//! A binary of its own, so that nothing else is planted in the process.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cleanbreak::threads::deadlocks_after;
use cleanbreak::{CancelToken, GroupBuilder, Pool, SafeChannel, SafeReceiver, SafeSender, scope};
use support::{in_time, rng, until};

const LOOKS: u32 = 3_000;

#[derive(Default)]
struct Game {
    moves: AtomicU64,
    over: AtomicBool,
}

/// Values go round until it is over; `idle` makes some of them late. No other handles are left, so
/// that nothing but the truth keeps a look from naming the players.
fn play(tx: &SafeSender<u64>, rx: &SafeReceiver<u64>, game: &Game, mut idle: fastrand::Rng) {
    while let Ok(value) = rx.recv()
        && !game.over.load(Relaxed)
    {
        game.moves.fetch_add(1, Relaxed);
        (0..idle.u32(0..200)).for_each(|_| std::hint::spin_loop());
        if tx.send(value + 1).is_err() {
            break;
        }
    }
}

/// Both ends of a ring of two, in which one value goes round.
fn ring(room: usize) -> [(SafeSender<u64>, SafeReceiver<u64>); 2] {
    let (to_a, a) = SafeChannel::bounded(room);
    let (to_b, b) = SafeChannel::bounded(room);
    [(to_b, a), (to_a, b)]
}

#[test]
fn thousands_of_looks_at_a_system_that_moves_name_nothing_and_then_what_was_planted() {
    in_time(|| {
        let mut rng = rng("deadlock_stress");
        let game = Game::default();
        let game @ Game { moves, over } = &game;
        let pools = [(); 2].map(|()| Pool::builder().name("pool").workers(2).queue(4));
        let pools = pools.map(|pool| pool.build(&CancelToken::new()).unwrap());
        let [lower, upper] = &pools;
        let rings = [0, 0, 1, 1, 2, 4].map(ring);
        let seeds: Vec<_> = rings.iter().map(|[(tx, _), _]| tx.clone()).collect();
        let moving = scope(&CancelToken::new(), |group| {
            for (tx, rx) in rings.into_iter().flatten() {
                let idle = rng.fork();
                group.spawn_named("player", move |_| {
                    play(&tx, &rx, game, idle);
                    Ok(())
                })?;
            }
            for (at, seed) in seeds.into_iter().enumerate() {
                seed.send(0)?;
                if at == 4 {
                    // Two of room on each side, and three on their way: some have to wait for room.
                    seed.send(0)?;
                    seed.send(0)?;
                }
            }
            // Joins: of a pool from another, of a group that is short of threads.
            group.spawn_named("submitter", move |_| {
                let lower = std::sync::Arc::new(lower);
                while !over.load(Relaxed) {
                    let job = upper.submit(|_| Ok(1))?;
                    let below = lower.submit(|_| Ok(2))?;
                    moves.fetch_add(below.join()? + job.join()?, Relaxed);
                }
                Ok(())
            })?;
            group.spawn_named("forker", move |token| {
                while !over.load(Relaxed) {
                    GroupBuilder::new()
                        .limit(2)
                        .backlog(0)
                        .scope(token, |tasks| {
                            let own: Vec<_> = (0..4).map(|n| tasks.spawn(move |_| Ok(n))).collect();
                            for task in own {
                                moves.fetch_add(task?.join()?, Relaxed);
                            }
                            Ok(())
                        })?;
                }
                Ok(())
            })?;
            // Also when a look fails.
            scopeguard::defer!(over.store(true, Relaxed));
            let start = moves.load(Relaxed);
            for look in 0..LOOKS {
                let found = deadlocks_after(Duration::ZERO);
                assert!(found.is_empty(), "at look {look}: {}", found[0]);
            }
            let moved = moves.load(Relaxed) - start;
            println!("{LOOKS} looks, while {moved} things moved");
            assert!(moved > u64::from(LOOKS) / 10, "it hardly moved: {moved}");
            if cfg!(all(
                feature = "diagnose",
                target_os = "linux",
                not(cleanbreak_portable)
            )) {
                one_is_planted(moves);
            }
            Ok(())
        });
        moving.unwrap();
    });
}

fn one_is_planted(moves: &AtomicU64) {
    let [(to_b, a), (to_a, b)] = ring(1);
    let (seed_a, seed_b) = (to_a.clone(), to_b.clone());
    let planted = scope(&CancelToken::new(), |group| {
        for (tx, rx) in [(to_b, a), (to_a, b)] {
            group.spawn_named("planted", move |_| {
                rx.recv()?;
                while tx.send(0).is_ok() {}
                Ok(())
            })?;
        }
        seed_a.send(0)?;
        seed_b.send(0)?;
        let mut found = Vec::new();
        until(|| {
            found = deadlocks_after(Duration::ZERO);
            !found.is_empty()
        });
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .threads
                .iter()
                .all(|it| it.thread.name == "planted")
        );
        assert_eq!(found[0].threads.len(), 2);
        let before = moves.load(Relaxed);
        until(|| moves.load(Relaxed) > before);
        seed_a.close();
        seed_b.close();
        Ok(())
    });
    planted.unwrap();
    until(|| deadlocks_after(Duration::ZERO).is_empty());
}
