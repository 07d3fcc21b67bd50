//! What only the crate itself can reach: the list of handles.

use super::SafeChannel;

#[test]
fn a_dropped_clone_of_a_sender_leaves_no_residue() {
    let (tx, rx) = SafeChannel::bounded::<u8>(1);
    let clones: Vec<_> = (0..100).map(|_| tx.clone()).collect();
    assert_eq!(rx.core().listed(), Some(101));
    drop(clones);
    assert_eq!(rx.core().listed(), Some(1));
    (0..100).for_each(|_| drop(tx.clone()));
    assert_eq!(rx.core().listed(), Some(1));
    rx.close();
    let late = tx.clone();
    assert_eq!(rx.core().listed(), None);
    drop(late);
}
