//! `cargo run --release -p fastlog-bench --example clean DIRECTORY [MIB] [KEYS]`: how fast the cleaner is.

fn main() -> std::io::Result<()> {
    let mut words = std::env::args().skip(1);
    let directory = words.next().unwrap_or_else(|| "clean-bench".to_owned());
    let mut number = |default: u64| words.next().and_then(|word| word.parse().ok()).unwrap_or(default);
    let (mib, keys) = (number(1024), number(1_000_000));
    let figures = fastlog_bench::clean::clean(std::path::Path::new(&directory), mib << 20, keys)?;
    let seconds = figures.took.as_secs_f64();
    let rate = figures.bytes_before as f64 / 1e6 / seconds;
    println!("{figures:?}: {rate:.0} MB/s");
    Ok(())
}
