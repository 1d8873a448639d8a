//! Threads and the processors they get.

use std::io;

use rustix::process::{getpriority_process, setpriority_process};

/// Has the calling thread, and it alone, step back behind those of a lower niceness when processors are short; it never comes
/// forward. In Linux each thread has a niceness of its own.
pub fn step_back(niceness: i32) -> io::Result<()> {
    let now = getpriority_process(None)?;
    Ok(setpriority_process(None, now.max(niceness))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_steps_back_alone_and_not_forward_again() {
        let here = getpriority_process(None).unwrap();
        let (behind, again) = std::thread::spawn(move || {
            step_back(here + 2).unwrap();
            let behind = getpriority_process(None).unwrap();
            step_back(here).unwrap();
            (behind, getpriority_process(None).unwrap())
        })
        .join()
        .unwrap();
        assert_eq!((behind, again), (here + 2, here + 2));
        assert_eq!(getpriority_process(None).unwrap(), here);
    }
}
