//! The token that a thread works under, as lists show it; and that a list keeps no token.

mod support;

use cleanbreak::threads::{self, ThreadInfo, TokenPath};
use cleanbreak::{CancelToken, ChildSpec, GroupBuilder, Pool, Supervisor, ThreadCache, scope};
use crossbeam_channel::bounded;
use support::{in_time, until, until_waiting};

fn find(name: &str) -> Option<ThreadInfo> {
    threads::live()
        .into_iter()
        .find(|thread| thread.name == name)
}

fn path(name: &str) -> TokenPath {
    until_waiting(name);
    let path = find(name).and_then(|thread| thread.token).unwrap();
    println!("{name}: {path}");
    path
}

#[test]
fn a_thread_of_a_group_a_pool_or_a_supervisor_is_shown_under_its_token() {
    in_time(|| {
        let service = CancelToken::new();
        let pool = Pool::builder().name("pool under service").workers(1);
        let pool = pool.build(&service).unwrap();
        assert_eq!(
            path("pool under service").ids,
            [service.id(), pool.token().id()]
        );

        let child = ChildSpec::new("child with a root", |cx| {
            cx.ready();
            cx.token().wait();
            Ok(())
        });
        let supervisor = Supervisor::builder().name("supervisor of one").child(child);
        let supervisor = supervisor.start(&service).unwrap();
        let own = [service.id(), supervisor.token().id()];
        assert_eq!(path("supervisor of one").ids, own);
        // The tokens of children are not below the supervisor's.
        assert_eq!(path("child with a root").ids.len(), 1);

        scope(&service, |outer| {
            outer.spawn_named("outer task", |token| {
                scope(token, |inner| {
                    inner.spawn_named("inner task", |token| {
                        token.wait();
                        Ok(())
                    })?;
                    let expected = [service.id(), token.id(), inner.token().id()];
                    assert_eq!(path("inner task").ids, expected);
                    token.wait();
                    Ok(())
                })
            })?;
            let found = path("outer task");
            assert_eq!(found.ids, [service.id(), outer.token().id()]);
            assert!(!found.cancelled && !found.cut);
            let text = format!("{:#x} > {:#x}", service.id(), outer.token().id());
            assert_eq!(found.to_string(), text);
            until_waiting("inner task");
            outer.token().cancel();
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn a_warm_thread_has_the_token_of_the_task_that_it_runs_and_none_when_it_rests() {
    in_time(|| {
        let cache = ThreadCache::new();
        let service = CancelToken::new();
        for name in ["first warm", "second warm"] {
            let group = GroupBuilder::new().cache(&cache);
            let ran = group.scope(&service, |group| {
                group.spawn_named(name, |token| {
                    token.wait();
                    Ok(())
                })?;
                assert_eq!(path(name).ids, [service.id(), group.token().id()]);
                group.token().cancel();
                assert!(find(name).is_none_or(|it| it.token.is_none_or(|it| it.cancelled)));
                Ok(())
            });
            ran.unwrap();
        }
        let resting = |thread: ThreadInfo| thread.token.is_none();
        until(|| find("cleanbreak cached").is_some_and(resting));
    });
}

#[test]
fn a_long_path_is_shown_from_its_end() {
    in_time(|| {
        let root = CancelToken::new();
        let mut deepest = root.clone();
        for _ in 0..100_000 {
            deepest = deepest.child();
        }
        let pool = Pool::builder().name("deep pool").workers(1);
        let pool = pool.build(&deepest).unwrap();
        let found = path("deep pool");
        assert_eq!((found.ids.len(), found.cut), (16, true));
        assert_eq!(found.ids[14..], [deepest.id(), pool.token().id()]);
        assert!(found.to_string().starts_with("… > 0x"));
    });
}

#[test]
fn a_list_keeps_no_token() {
    in_time(|| {
        let token = CancelToken::new();
        let done = token.done().clone();
        let pool = Pool::builder().name("pool of a token").workers(1);
        let pool = pool.build(&token).unwrap();
        assert_eq!(path("pool of a token").ids.len(), 2);
        let (release, held) = bounded::<()>(0);
        let stays = pool.submit(move |_| Ok(held.recv().is_err())).unwrap();
        drop(token);
        // The pool's own token keeps its parent; who looks adds nothing to that.
        (0..1_000).for_each(|_| drop(threads::live()));
        assert!(done.try_recv().unwrap_err().is_empty());
        drop(release);
        assert!(stays.join().unwrap());
        drop(pool);
        assert!(done.recv().is_err(), "nobody could cancel it any more");
    });
}

#[cfg(feature = "diagnose")]
#[test]
fn a_dump_shows_the_token_as_text_and_as_json() {
    use cleanbreak::diagnose::ThreadDump;

    in_time(|| {
        let service = CancelToken::new();
        let pool = Pool::builder().name("dumped pool").workers(1);
        let pool = pool.build(&service).unwrap();
        let found = path("dumped pool");
        let dump = ThreadDump::builder().stacks(false).capture();
        let shown = dump.threads().iter().find(|it| it.name == "dumped pool");
        let text = shown.unwrap().to_string();
        assert!(
            text.ends_with(&format!("under token\n\t{found}\n")),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&dump.to_json()).unwrap();
        let mut threads = json["threads"].as_array().unwrap().iter();
        let thread = threads.find(|it| it["name"] == "dumped pool").unwrap();
        let ids = [service.id(), pool.token().id()].map(|id| format!("{id:#x}"));
        let token = &thread["library"]["token"];
        assert_eq!(token["ids"], serde_json::json!(ids));
        assert_eq!(
            (&token["cut"], &token["cancelled"]),
            (&false.into(), &false.into())
        );
    });
}
