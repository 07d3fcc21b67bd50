//! The points of `chaos` are in a program that asks for the feature, and in no other.
//!
//! Run with the feature and without: each is the negative control of the other.

use cleanbreak::{CancelToken, SafeChannel, chaos, scope};

/// Whether this program has the text in it. Put together here, so that it is not there by this.
fn has(part: &str, place: &str) -> bool {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let name = format!("{part}.{place}");
    program
        .windows(name.len())
        .any(|bytes| bytes == name.as_bytes())
}

#[test]
fn without_the_feature_no_code_of_the_points_is_left() {
    // What passes points of most floors is in the program.
    let (tx, rx) = SafeChannel::bounded(1);
    let sum = scope(&CancelToken::new(), |group| {
        let task = group.spawn(move |token| Ok(rx.recv_or_cancel(token)?))?;
        tx.send(1)?;
        Ok(task.join()?)
    });
    assert_eq!(sum.unwrap(), 1);
    for (part, place) in [
        ("channel", "send"),
        ("threads", "spawn"),
        ("group", "task"),
        ("sync", "wait"),
        ("cancel", "child"),
    ] {
        assert_eq!(has(part, place), cfg!(feature = "chaos"), "{part}, {place}");
    }
}

#[test]
fn points_of_ones_own_do_nothing_where_there_is_no_plan() {
    chaos::point("my.point");
    assert!(!chaos::fails("my.call"));
}
