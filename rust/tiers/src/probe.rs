//! Whether a store makes an object that is there no second time.
//!
//! Of those who make a manifest of one number one must succeed. A store that takes no notice of the condition would let a
//! former leader replace what the next one wrote, so it is not used: it is tried on an object that nothing else is done
//! with. It stays: one that each try made for itself and removed would be left wherever the removal fails.

use crate::error::StoreError;
use crate::requests::failed;

/// The object by which a store is tried.
const PROBE: &str = "fastlog-probe";
const TEXT: &[u8] =
    b"By this object fastlog sees whether the store replaces what is to be made only if it is not there.";

/// Makes an object that is there. An error where that succeeds, or where the store does not answer.
pub(crate) fn check_creates(
    make: impl Fn(&str, &'static [u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    for _made_by_this_or_before in 0..2 {
        match make(PROBE, TEXT) {
            Ok(()) => {}
            Err(StoreError::Exists { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(failed(
        "create",
        PROBE,
        "the store replaces what is to be made only if it is not there: it takes no notice of `If-None-Match: *`, without \
         which leaders cannot be kept apart. Use another store",
    ))
}

#[cfg(test)]
mod tests {
    use super::{PROBE, check_creates};
    use crate::error::StoreError;
    use crate::requests::failed;
    use std::cell::RefCell;

    #[test]
    fn however_often_and_badly_a_store_is_tried_it_has_one_object_more() {
        let kept = RefCell::new(Vec::new());
        let calls = RefCell::new(0);
        let make = |key: &str, _: &[u8]| {
            *calls.borrow_mut() += 1;
            if *calls.borrow() % 3 == 0 {
                return Err(failed("create", key, "denied"));
            }
            if kept.borrow().iter().any(|it| it == key) {
                return Err(StoreError::Exists { key: key.to_owned() });
            }
            kept.borrow_mut().push(key.to_owned());
            Ok(())
        };
        let outcomes: Vec<_> = (0..6).map(|_| check_creates(make).is_ok()).collect();
        // make and again; denied; it is there; it is there; denied; it is there
        assert_eq!(outcomes, [true, false, true, true, false, true]);
        assert_eq!(*kept.borrow(), [PROBE]);
    }

    #[test]
    fn a_store_that_replaces_is_not_used_also_where_it_did_not_replace_before() {
        let replaces = |_: &str, _: &[u8]| Ok(());
        assert!(check_creates(replaces).unwrap_err().to_string().contains("If-None-Match"));
    }
}
