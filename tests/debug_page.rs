//! The debug page in a real browser: that rows appear, live, as text, and how it can be used.
//!
//! Needs a Chromium, and says so where there is none. `CLEANBREAK_SHOTS=FOLDER` keeps pictures.

#[path = "debug_page/browser.rs"]
mod browser;
mod support;

use browser::Browser;
use cleanbreak::debug::DebugServer;
use cleanbreak::{
    Breaker, Bulkhead, CancelToken, ChildSpec, GroupBuilder, Job, KeyedRateLimiter, Pool, Probe,
    Quota, RateLimiter, Supervisor, Ticker,
};
use crossbeam_channel::bounded;
use serde_json::json;
use support::{in_time, secs, until_waiting};

const EVIL: &str = "<img src=x onerror=\"document.title='owned'\"><script>owned=1</script>";

/// Text of all rows of a section of the page.
fn rows(section: &str) -> String {
    format!(
        "[...document.querySelectorAll('section[aria-label=\"{section}\"] tbody tr')]\
         .map(row => row.innerText.replace(/\\s+/g, ' ')).join('\\n')"
    )
}

#[test]
fn the_page_shows_the_process_live_and_can_be_used() {
    let Some(binary) = browser::find() else {
        println!("SKIPPED: no Chromium to look at the debug page with");
        return;
    };
    println!("with {}", binary.display());
    in_time(move || {
        let service = CancelToken::new();
        let server = DebugServer::builder().bind("127.0.0.1:0");
        let server = server.start(&CancelToken::new()).unwrap();
        server.watch_token("service", &service);
        let requests = service.child_timeout(secs(600));
        server.watch_token("requests", &requests);
        let gone = requests.child();
        gone.cancel_with("the client went");
        server.watch_value("queue", || "3 of 7".to_owned());
        let payments = Breaker::builder()
            .name("payments")
            .consecutive_failures(1)
            .build()
            .unwrap();
        payments
            .call(&service, |_| Err::<(), _>("down"))
            .unwrap_err();
        server.watch_value(EVIL, || EVIL.to_owned());
        let stock = Breaker::builder().name("stock").build().unwrap();
        stock.call(&service, |_| Ok::<_, ()>(7)).unwrap();
        let _ticker = Ticker::new(secs(1)).unwrap();
        let uploads = Bulkhead::new(2).named("uploads at a time");
        let _permit = uploads.try_acquire().unwrap();
        let mails = RateLimiter::new(Quota::per_minute(2)).named("mails");
        mails.try_acquire_n(2).unwrap();
        let clients = KeyedRateLimiter::<String>::new(Quota::per_second(9)).named("clients");
        clients.try_acquire("ann").unwrap();
        let fails = ChildSpec::new("feed", |cx| {
            anyhow::ensure!(cx.restarts() > 0, "no route");
            cx.ready();
            cx.token().wait();
            Ok(())
        });
        let ledger = ChildSpec::new("ledger", |cx| {
            cx.ready();
            cx.token().wait();
            Ok(())
        });
        let supervisor = Supervisor::builder().name("market").child(ledger);
        let supervisor = supervisor.start(&service).unwrap();
        supervisor.add(fails).unwrap_err(); // not ready at once, and taken off the list
        let crossed = Pool::builder().name("crossed").workers(2);
        let crossed = crossed.build(&service).unwrap();
        let outer = [(); 2].map(|()| {
            let (give, given) = bounded::<Job<()>>(1);
            let join = move |_: &CancelToken| Ok(given.recv()?.join()?);
            crossed.execute(join).unwrap();
            give
        });
        for give in outer {
            give.send(crossed.submit(|_| Ok(())).unwrap()).unwrap();
        }
        let (_go, held) = bounded::<()>(0);
        let pool = Pool::builder().name("uploads").workers(2).queue(5);
        let pool = pool.build(&service).unwrap();
        for _ in 0..4 {
            let held = held.clone();
            pool.submit(move |token| {
                crossbeam_channel::select! { recv(held) -> _ => {}, recv(token.done()) -> _ => {} }
                Ok(())
            })
            .unwrap();
        }
        let ended = GroupBuilder::new()
            .name("services")
            .limit(9)
            .scope(&service, |group| {
                for _ in 0..3 {
                    group.spawn_named("poller", |token| {
                        token.wait();
                        Ok(())
                    })?;
                }
                group.spawn_named(EVIL, |token| {
                    token.wait();
                    Ok(())
                })?;
                group.spawn_named("spinner", |token| {
                    let mut probe = Probe::new("orders");
                    'orders: loop {
                        probe.idle();
                        if token.wait_timeout(secs(1) / 200) {
                            break 'orders;
                        }
                        probe.pass();
                    }
                    probe.finish_with("told");
                    Ok(())
                })?;
                until_waiting(EVIL);
                let mut browser = Browser::start(&binary);
                use_the_page(&mut browser, &server);
                let complaints = std::mem::take(&mut browser.complaints);
                assert!(complaints.is_empty(), "{complaints:?}");
                drop((server, supervisor));
                the_end_is_shown(&mut browser);
                service.cancel();
                Ok(())
            });
        ended.unwrap();
    });
}

fn use_the_page(page: &mut Browser, server: &DebugServer) {
    page.look_like("light", 1300);
    page.call("Page.navigate", json!({"url": server.url()}));
    page.until("document.querySelector('tbody tr')");
    page.until(&format!("{}.includes('3 of 7')", rows("Values")));
    page.until("document.querySelector('#status').textContent === 'live'");
    everything_is_there(page);
    names_are_text(page);
    rates_are_live(page);
    rows_sort_and_filter(page);
    a_thread_shows_its_stack(page);
    page.shot("light");
    page.look_like("dark", 1300);
    page.shot("dark");
    let back = page.eval("getComputedStyle(document.body).backgroundColor");
    assert_eq!(back, "rgb(17, 20, 24)", "dark");
    page.look_like("light", 400);
    let wide = page.eval("document.documentElement.scrollWidth");
    assert!(
        wide.as_u64().unwrap() <= 400,
        "at 400 pixels it is {wide} wide"
    );
    page.shot("narrow");
    page.look_like("light", 1300);
    it_pauses(page);
}

fn everything_is_there(page: &mut Browser) {
    for (section, words) in [
        (
            "Threads",
            &[
                "poller",
                "× 3",
                "be cancelled",
                "debug_page.rs",
                "service › (child)",
            ][..],
        ),
        ("Loops", &["orders", "debug_page.rs"]),
        ("Pools", &["uploads", "2 / 2", "2 / 5", "open"]),
        ("Tickers", &["debug_page.rs", "1.0 s", "ticking"]),
        (
            "Tokens",
            &[
                "service",
                "└ requests",
                "9 min",
                "cancelled: the client went",
            ],
        ),
        (
            "Breakers",
            &["payments", "open", "stock", "closed", "debug_page.rs"],
        ),
        (
            "Deadlocks",
            &[
                "deadlock",
                "crossed (",
                "join a task of a pool",
                "a cancel of pool",
            ],
        ),
        (
            "Groups",
            &["services", "5 / 9", "poller", "active", "debug_page.rs"],
        ),
        (
            "Supervisors",
            &["market", "└ ledger", "running", "be cancelled"],
        ),
        ("Bulkheads", &["uploads at a time", "1 / 2", "open"]),
        (
            "Rate limiters",
            &["mails", "2 per 60s, 2 at once", "clients", "1 / 65,536"],
        ),
        ("Values", &["queue", "3 of 7"]),
    ] {
        let text = page.eval(&rows(section));
        let text = text.as_str().unwrap();
        for word in words {
            assert!(text.contains(word), "{section} has no {word:?}: {text}");
        }
    }
}

fn names_are_text(page: &mut Browser) {
    assert_eq!(page.eval("typeof owned"), "undefined");
    assert_eq!(
        page.eval("document.querySelectorAll('main img, main script').length"),
        0
    );
    for section in ["Threads", "Values"] {
        let text = page.eval(&rows(section));
        assert!(text.as_str().unwrap().contains(EVIL), "{text}");
    }
}

fn rates_are_live(page: &mut Browser) {
    let passes = "Number(document.querySelector('section[aria-label=Loops] tbody tr').cells[3]\
                  .textContent.replaceAll(',', ''))";
    let before = page.eval(passes).as_u64().unwrap();
    page.until(&format!("{passes} > {before}"));
    page.until("document.querySelector('polyline').getAttribute('points').split(' ').length >= 2");
    let rate =
        "Number(document.querySelector('section[aria-label=Loops] tbody tr').cells[1].textContent)";
    page.until(&format!("{rate} > 0"));
}

fn rows_sort_and_filter(page: &mut Browser) {
    let head = "document.querySelector('section[aria-label=Threads] th')";
    let first = "document.querySelector('section[aria-label=Threads] tbody tr').cells[0].innerText";
    let ascending = page.eval(first);
    assert_eq!(
        page.eval(&format!("{head}.getAttribute('aria-sort')")),
        "ascending"
    );
    page.eval(&format!("{head}.querySelector('button').click()"));
    assert_eq!(
        page.eval(&format!("{head}.getAttribute('aria-sort')")),
        "descending"
    );
    assert_ne!(page.eval(first), ascending);
    page.eval(&format!("{head}.querySelector('button').click()"));
    // By keyboard: to the filter, a word, and out of it again.
    page.press("/", "/");
    assert_eq!(page.eval("document.activeElement.id"), "filter");
    for letter in ["p", "o", "l", "l", "e", "r"] {
        page.press(letter, letter);
    }
    assert_eq!(
        page.eval("document.querySelector('#filter').value"),
        "poller"
    );
    let all = page.eval(&rows("Threads"));
    assert_eq!(all.as_str().unwrap().lines().count(), 1, "{all}");
    page.press("Escape", "");
    assert_eq!(page.eval("document.querySelector('#filter').value"), "");
    page.until(&format!("{}.includes('spinner')", rows("Threads")));
}

fn a_thread_shows_its_stack(page: &mut Browser) {
    let open = |which: &str| {
        format!(
            "[...document.querySelectorAll('section[aria-label=Threads] .open')]\
         .find(it => it.textContent === 'poller' && {which}).click()"
        )
    };
    page.eval(&open("it.closest('tr').className === ''"));
    page.until(&format!(
        "{}.split('\\n').filter(row => row.startsWith('poller')).length === 4",
        rows("Threads")
    ));
    page.eval(&open("it.closest('tr').className === 'member'"));
    let stack = if cfg!(all(
        target_os = "linux",
        target_arch = "x86_64",
        not(cleanbreak_portable)
    )) {
        "CancelToken"
    } else {
        "tack"
    };
    page.until(&format!(
        "document.querySelector('.detail')?.innerText.includes('{stack}')"
    ));
    println!(
        "{}",
        page.eval("document.querySelector('.detail').innerText")
            .as_str()
            .unwrap()
    );
    // It is still open after a refresh, and what has the focus keeps it.
    page.eval("document.querySelector('.member .open').focus()");
    page.eval("window.marked = document.querySelector('.detail')");
    let age = "document.querySelector('.member').cells[7].textContent";
    let before = page.eval(age);
    page.until(&format!("{age} !== {before}"));
    assert_eq!(
        page.eval("window.marked === document.querySelector('.detail')"),
        true
    );
    assert_eq!(page.eval("document.activeElement.className"), "open");
}

fn it_pauses(page: &mut Browser) {
    page.eval("document.querySelector('#pause').click()");
    assert_eq!(
        page.eval("document.querySelector('#status').textContent"),
        "paused"
    );
    // What was on its way may still come; after it, nothing.
    page.eval("new Promise(go => setTimeout(go, 1000))");
    let before = page.eval(&rows("Loops"));
    page.eval("new Promise(go => setTimeout(go, 2500))");
    assert_eq!(page.eval(&rows("Loops")), before);
    page.eval("document.querySelector('#pause').click()");
    let before = before.to_string();
    page.until(&format!("{} !== {before}", rows("Loops")));
}

fn the_end_is_shown(page: &mut Browser) {
    page.until("document.querySelector('#alarm').innerText.includes('No answer')");
    assert_eq!(
        page.eval("document.querySelector('#status').textContent"),
        "no answer"
    );
    let rows = page.eval(&rows("Threads"));
    assert!(
        rows.as_str().unwrap().contains("poller"),
        "the last state stays"
    );
    page.shot("gone");
}
