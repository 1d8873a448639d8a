//! The program that libFuzzer drives. FUZZ_TARGET names the target; FUZZ_SEEDS, if set, a directory that its seeds are
//! written to first.

#![no_main]
#![allow(clippy::expect_used, reason = "without a target there is nothing to do but say so")]

use fastlog_fuzz::{Target, target};
use std::path::Path;
use std::sync::LazyLock;

static CHOSEN: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET must name a target");
    target(&name).expect("FUZZ_TARGET must be one of the names in rust/fuzz/src/targets/mod.rs")
});

libfuzzer_sys::fuzz_target!(
    init: {
        if let Some(directory) = std::env::var_os("FUZZ_SEEDS") {
            for (number, seed) in (CHOSEN.seeds)().iter().enumerate() {
                std::fs::write(Path::new(&directory).join(format!("seed-{number}")), seed)
                    .expect("a seed must be written to FUZZ_SEEDS");
            }
        }
    },
    |bytes: &[u8]| (CHOSEN.run)(bytes)
);
