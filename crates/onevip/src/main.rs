//! The `onevip` binary. See the library for everything.

fn main() -> std::process::ExitCode {
    onevip::cli::main()
}
