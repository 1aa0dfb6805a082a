//! Figures of the disk engine.

fn main() {
    println!("{}", cairn_bench::thousands(0));
}
