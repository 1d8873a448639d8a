//! Memory follows the bytes that came, never what they claim.

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Does `work`, which may hold at most `bytes_max` more bytes than there were before, at any moment. The count is the
/// process's: nothing else may run meanwhile. What C code allocates is not in it.
pub(crate) fn bounded<T>(what: &str, bytes_max: usize, work: impl FnOnce() -> T) -> T {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let result = work();
    let held = MEMORY.peak_usage().saturating_sub(before);
    assert!(held <= bytes_max, "{what} held {held} bytes, {bytes_max} are allowed");
    result
}
