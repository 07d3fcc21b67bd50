//! What values say of themselves: predicates and `Debug`.

use std::panic::Location;

use cleanbreak::group::{PanicPayload, TaskError};
use cleanbreak::leak::leak_check;
use cleanbreak::pool::JobError;

fn payload() -> PanicPayload {
    PanicPayload::new(Box::new("burnt"))
}

#[test]
fn the_reasons_why_a_task_has_no_result_are_told_apart() {
    type Error = TaskError<&'static str>;
    let table: [(Error, bool, bool, Option<&str>); 4] = [
        (TaskError::Failed("cold"), false, false, Some("cold")),
        (TaskError::Panicked(payload()), true, false, None),
        (TaskError::NotStarted, false, true, None),
        (TaskError::EndedGroup, false, false, None),
    ];
    for (error, panic, not_started, failure) in table {
        let shown = format!("{error:?}");
        assert_eq!(error.is_panic(), panic, "{shown}");
        assert_eq!(error.is_not_started(), not_started, "{shown}");
        assert_eq!(error.into_failure(), failure, "{shown}");
    }
}

#[test]
fn debug_says_what_one_wants_to_know() {
    let silent = PanicPayload::new(Box::new(7));
    assert_eq!(format!("{:?}", payload()), "PanicPayload(\"burnt\")");
    assert_eq!(format!("{silent:?}"), "PanicPayload(\"..\")");
    let jobs = [
        JobError::Failed("cold"),
        JobError::Panicked(payload()),
        JobError::Cancelled,
        JobError::Abandoned,
    ];
    let shown = jobs.map(|error| format!("{error:?}"));
    let expected = [
        "Failed(\"cold\")",
        "PanicPayload(\"burnt\")",
        "Cancelled",
        "Abandoned",
    ];
    assert_eq!(shown, expected);
    let (check, here) = (leak_check(), Location::caller());
    let shown = format!("{check:?}");
    assert!(
        shown.contains(here.file()) && shown.contains("process: false"),
        "{shown}"
    );
}
