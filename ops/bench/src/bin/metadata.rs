//! Figures of the metadata backends.

fn main() {
    println!("{}", cairn_bench::thousands(0));
}
