//! Every API, version and direction: a body decodes or is refused, in bounded memory; what was decoded encodes again,
//! to bytes that decode to the same. The data plane's generated messages and a walk over the schema's tables, which is
//! how the control plane's messages are read, must be of one mind.
//!
//! Input: API (its place in the table), version, direction, body.

use super::table;
use crate::bounded::bounded;
use crate::common::{DIRECTIONS, Direction, message};
use crate::data_plane;
use crate::input::Input;
use fastlog_protocol::schema::{APIS, Api};

/// A decoded message may take so many times the bytes that it was read from. The worst is an array of empty strings:
/// one byte each on the wire, and a struct of a pointer, a length and more here, in a vector that doubles.
const RATIO_MAX: usize = 200;
/// Room that the first elements of an array get at once, errors, and the buffer that is written to.
const SLACK_BYTES: usize = 64 << 10;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let api = APIS[input.choice(APIS.len())];
    let version = api.versions.low + input.choice(versions(api)) as i16;
    let direction = DIRECTIONS[input.choice(2)];
    check(api, version, direction, input.rest());
}

fn check(api: &'static Api, version: i16, direction: Direction, body: &[u8]) {
    let by_table = table::again(api, direction, version, body);
    if let Ok(bytes) = &by_table {
        assert_eq!(table::again(api, direction, version, bytes).as_ref(), Ok(bytes), "by table");
    }
    if !data_plane::KEYS.contains(&api.key) {
        return;
    }
    let bytes_max = SLACK_BYTES + RATIO_MAX * body.len();
    let what = format!("a {} {direction:?} version {version}", api.name);
    let generated = bounded(&what, bytes_max, || data_plane::again(api.key, direction, version, body));
    if let Ok(bytes) = &generated {
        assert_eq!(data_plane::again(api.key, direction, version, bytes).as_ref(), Ok(bytes), "{what}");
    }
    assert_eq!(by_table.ok(), generated.ok(), "{what}, by table and generated");
}

fn versions(api: &Api) -> usize {
    (api.versions.high - api.versions.low + 1) as usize
}

/// Three random messages of everything.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (place, api) in APIS.into_iter().enumerate() {
        for number in 0..versions(api) {
            for (which, direction) in DIRECTIONS.into_iter().enumerate() {
                for seed in 0..3 {
                    let mut bytes = vec![place as u8, number as u8, which as u8];
                    bytes.extend(message(api, direction, api.versions.low + number as i16, seed));
                    seeds.push(bytes);
                }
            }
        }
    }
    seeds
}
