//! Every target over its seeds, and over the inputs that once found something: what is in regressions/ stays mended.

#![allow(clippy::unwrap_used, reason = "a test")]

use fastlog_fuzz::TARGETS;
use std::path::Path;

// one test, since the targets measure the memory of the process
#[test]
fn seeds_and_old_findings_find_nothing() {
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} begins with nothing", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            eprintln!("{} seed {number}", target.name);
            (target.run)(seed);
        }
        (target.run)(&[]);
        let Ok(folder) = std::fs::read_dir(regressions.join(target.name)) else { continue };
        for file in folder {
            let path = file.unwrap().path();
            eprintln!("{} {}", target.name, path.display());
            (target.run)(&std::fs::read(path).unwrap());
        }
    }
}

/// A folder of findings that no target reads would guard nothing.
#[test]
fn each_folder_of_findings_has_its_target() {
    let Ok(folders) = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions")) else {
        return;
    };
    for folder in folders {
        let name = folder.unwrap().file_name();
        assert!(fastlog_fuzz::target(name.to_str().unwrap()).is_some(), "{name:?} names no target");
    }
}
