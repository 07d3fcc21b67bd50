//! The slab of children beside an ordered map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::slab::Slab;
use crate::noise::cases;

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn the_slab_is_a_map_whose_keys_are_as_small_as_they_can_be(
        steps in prop::collection::vec(prop::option::of(0..80_usize), 0..300),
    ) {
        let (mut slab, mut map) = (Slab::new(), BTreeMap::new());
        let mut most = 0;
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Some(at) if number % 3 > 0 => prop_assert_eq!(slab.remove(at), map.remove(&at)),
                _ => {
                    let at = slab.insert(number);
                    prop_assert_eq!(map.insert(at, number), None);
                    most = most.max(map.len());
                    prop_assert!(at < most, "{} of {}", at, most);
                }
            }
            prop_assert_eq!(slab.len(), map.len());
            let from = number % 7;
            let all: Vec<_> = slab.iter_from(from).map(|(at, value)| (at, *value)).collect();
            let expected: Vec<_> = map.range(from..).map(|(at, value)| (*at, *value)).collect();
            prop_assert_eq!(all, expected);
        }
    }
}
