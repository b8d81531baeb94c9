//! Prints what engines said in many lives, a digest a block: two builds that decide alike print the same.
//!
//! `record_lives [FIRST LIVES BLOCK]`, by default the lives that `tests/recorded/recorded.txt` holds. Each line has the kind of
//! recording, its seeds and a digest: see `onevip_core::sim::record`.

#[path = "../tests/recorded/lines.rs"]
mod lines;

fn main() {
    let numbers: Result<Vec<u64>, _> = std::env::args().skip(1).map(|arg| arg.parse()).collect();
    let (first, lives, block) = match numbers.as_deref() {
        Ok([]) => (lines::FIRST, lines::LIVES, lines::BLOCK),
        Ok(&[first, lives, block]) if block > 0 => (first, lives, block),
        _ => {
            eprintln!("record_lives [FIRST LIVES BLOCK]");
            std::process::exit(2);
        }
    };
    for line in lines::record(first, lives, block) {
        println!("{line}");
    }
}
