//! Dumps on systems that list no threads: those of the library, and a word about the rest.
#![cfg(any(not(target_os = "linux"), cleanbreak_portable))]

mod support;

use cleanbreak::diagnose::{StackProblem, StackSignal, StackSignalError, ThreadDump};
use cleanbreak::{CancelToken, scope};
use support::{in_time, until_waiting};

#[test]
fn the_librarys_threads_are_listed_with_site_and_wait_and_the_rest_is_said() {
    in_time(|| {
        scope(&CancelToken::new(), |group| {
            group.spawn_named("known", |token| {
                token.wait();
                Ok(())
            })?;
            let line = line!() - 4;
            until_waiting("known");
            let dump = ThreadDump::capture();
            let mut known = dump.threads().iter();
            let known = known.find(|thread| thread.name == "known").unwrap();
            let library = known.library.as_ref().unwrap();
            assert_eq!(library.spawned_at.line(), line);
            assert_eq!(library.waiting.unwrap().on, "be cancelled");
            assert!(known.blocked.is_some() && known.age.is_some());
            assert_eq!(known.stack.problem(), Some(StackProblem::Unsupported));
            assert!(dump.problems()[0].starts_with("on this system"));
            assert!(
                dump.to_string()
                    .contains("(no stack: stacks are not supported here)")
            );
            let json: serde_json::Value = serde_json::from_str(&dump.to_json()).unwrap();
            assert_eq!(json["threads"][0]["state"], serde_json::Value::Null);
            assert_eq!(dump.to_pprof()[..2], [0x1f, 0x8b]);
            assert!(
                ThreadDump::builder()
                    .only([1])
                    .capture()
                    .threads()
                    .is_empty()
            );
            group.token().cancel();
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn there_is_no_signal_for_stacks_and_that_is_said() {
    for refused in [StackSignal::install(), StackSignal::install_at(40)] {
        let error = refused.unwrap_err();
        assert!(matches!(error, StackSignalError::Unsupported));
        assert_eq!(error.to_string(), "stacks by signal are not supported here");
    }
}
