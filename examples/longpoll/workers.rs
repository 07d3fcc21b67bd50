//! The threads beside the connections: the housekeeper, and the watchdog over the shutdown.

use cleanbreak::clock::Instant;
use cleanbreak::interrupt::Interrupts;
use cleanbreak::{CancelToken, Ticker, threads};
use crossbeam_channel::select;

use super::service::{Service, count, log};

/// `EX_SOFTWARE`: the service failed to end by itself.
const GAVE_UP: i32 = 70;

/// At every beat logs the counts and forgets idle topics, and reloads on a hang-up, until
/// `finished`. Reading the file may hang; the signals that end the service do not come this way.
pub(crate) fn housekeeper(
    service: &Service,
    hang_ups: &Interrupts,
    finished: &CancelToken,
) -> anyhow::Result<()> {
    let ticker = Ticker::new(service.live.current().heartbeat)?;
    'beats: loop {
        select! {
            recv(finished.done()) -> _ => break 'beats,
            recv(hang_ups) -> hang_up => {
                if hang_up.is_err() {
                    break 'beats;
                }
                reload(service);
            }
            recv(ticker.ticks()) -> tick => match tick {
                Ok(tick) => beat(service, tick.scheduled),
                Err(_) => break 'beats,
            },
        }
        let period = service.live.current().heartbeat;
        if period != ticker.period() {
            ticker.reset(period)?;
        }
    }
    Ok(())
}

fn beat(service: &Service, now: Instant) {
    count(&service.tally.beats);
    let forgotten = service
        .topics
        .forget_idle(service.live.current().topic_idle, now);
    if forgotten > 0 {
        log(format_args!("{forgotten} idle topics forgotten"));
    }
    log(service.stats().trim_end());
}

fn reload(service: &Service) {
    match service.live.reload() {
        Ok(()) => {
            count(&service.tally.reloads);
            log("the settings were read again");
        }
        Err(problem) => {
            count(&service.tally.failed_reloads);
            log(format_args!("the settings stay as they were: {problem}"));
        }
    }
}

/// The last resort of the shutdown: if the groups are not `joined` when all phases together should
/// be over, names the threads that are still there and ends the process. No part of the shutdown
/// waits for a thread beyond its deadline except the join, and a thread that hangs can be ended in
/// no other way.
pub(crate) fn watchdog(service: &Service, stop: &CancelToken, joined: &CancelToken) {
    stop.wait();
    if joined.wait_timeout(service.live.current().whole_stop()) {
        return;
    }
    for thread in threads::live() {
        log(format_args!("still there: {thread}"));
    }
    signal_hook::low_level::exit(GAVE_UP);
}
