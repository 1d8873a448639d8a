//! A thread that the engine lives by panics, in a process of its own, which is this test again.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::os::unix::process::ExitStatusExt;
use std::panic::catch_unwind;
use std::process::{Command, Output};

use fastlog_sys::panics::{end_process_on_panic, vital};

const CHILD: &str = "FASTLOG_TEST_PANICS_HERE";

/// What becomes of a process that runs this test alone.
fn run_again(test: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads", "1"])
        .env(CHILD, "1")
        .output()
        .unwrap()
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Whether a thread that runs this ends by a panic.
fn panics(run: impl FnOnce() + Send + 'static) -> bool {
    let builder = std::thread::Builder::new().name("fastlog-io-0".to_owned());
    builder.spawn(vital(run)).unwrap().join().is_err()
}

#[test]
fn the_end_of_a_thread_ends_a_process_of_our_own() {
    if is_child() {
        end_process_on_panic();
        panics(|| panic!("planted"));
        return;
    }
    let ended = run_again("the_end_of_a_thread_ends_a_process_of_our_own");
    // SIGABRT
    assert_eq!(ended.status.signal(), Some(6));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("planted"), "{said}");
    assert!(said.contains("the thread fastlog-io-0 failed, and the broker ends"), "{said}");
}

#[test]
fn a_panic_that_is_caught_ends_nothing() {
    if is_child() {
        end_process_on_panic();
        assert!(!panics(|| assert!(catch_unwind(|| panic!("of one request")).is_err())));
        return;
    }
    assert!(run_again("a_panic_that_is_caught_ends_nothing").status.success());
}

#[test]
fn a_process_of_somebody_else_s_goes_on() {
    assert!(panics(|| panic!("planted")));
}
