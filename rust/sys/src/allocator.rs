//! The C library's allocator, which libzmq's messages and our buffers come from.

/// Lets the process keep memory that it has freed, instead of giving it back and asking for it again: with glibc's own
/// rules each message of 256 KiB was fresh memory, a page fault every 4 KiB. Up to 64 MiB stay at the end of each arena,
/// and what is larger than 8 MiB still goes back at once.
///
/// For a process of our own only: it holds for everything in it, from now on. False where the allocator is not glibc's or
/// refuses.
pub fn keep_freed_memory() -> bool {
    set()
}

/// Gives memory that is free now back to the system, whatever is kept as a rule: after a start, which takes much for once.
pub fn give_back_freed_memory() {
    trim();
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn trim() {
    // SAFETY: malloc_trim may be called at any time; glibc locks its arenas meanwhile
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn set() -> bool {
    const MAPPED_ALONE_BYTES: libc::c_int = 8 << 20;
    const KEPT_BYTES: libc::c_int = 64 << 20;
    // SAFETY: mallopt takes two numbers and may be called at any time; glibc locks its arenas meanwhile
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_ALONE_BYTES) == 1
            && libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES) == 1
    }
}

#[cfg(not(target_env = "gnu"))]
fn set() -> bool {
    false
}
