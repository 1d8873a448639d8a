//! The targets, each in a file of its own.

mod batch;
mod decoder;
mod frame;
mod index;
mod message;
mod recovery;
mod table;

/// One thing to fuzz.
pub struct Target {
    /// Its name on the command line, and of its folder in regressions/.
    pub name: &'static str,
    /// Panics where something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with: good ones, for the fuzzer to spoil.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub static TARGETS: [Target; 6] = [
    Target { name: "frame", run: frame::run, seeds: frame::seeds },
    Target { name: "decoder", run: decoder::run, seeds: decoder::seeds },
    Target { name: "batch", run: batch::run, seeds: batch::seeds },
    Target { name: "index", run: index::run, seeds: index::seeds },
    Target { name: "recovery", run: recovery::run, seeds: recovery::seeds },
    Target { name: "message", run: message::run, seeds: message::seeds },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
