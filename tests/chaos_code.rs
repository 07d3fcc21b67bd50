//! The points of `chaos` are in a program that asks for the feature, and in no other.
//!
//! Run with the feature and without: each is the negative control of the other.

use cleanbreak::{CancelToken, SafeChannel, chaos, scope};

/// Which of these names this program has in it. In two parts, so that they are not there by this.
fn found(names: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let dots = program
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'.');
    let mut found = Vec::new();
    for (dot, _) in dots {
        let (before, after) = (&program[..dot], &program[dot + 1..]);
        let here = names.iter().filter(|(part, place)| {
            before.ends_with(part.as_bytes()) && after.starts_with(place.as_bytes())
        });
        found.extend(here);
    }
    found.sort_unstable();
    found.dedup();
    found
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
    let names = [
        ("cancel", "child"),
        ("channel", "send"),
        ("group", "task"),
        ("sync", "wait"),
        ("threads", "spawn"),
    ];
    let expected = if cfg!(feature = "chaos") {
        &names[..]
    } else {
        &[]
    };
    assert_eq!(found(&names), expected);
}

#[test]
fn points_of_ones_own_do_nothing_where_there_is_no_plan() {
    chaos::point("my.point");
    assert!(!chaos::fails("my.call"));
}
