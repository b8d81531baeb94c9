//! Prints the page `docs/configuration.md`: `cargo run -p onevip-config --example configuration > docs/configuration.md`

fn main() {
    print!("{}", onevip_config::reference());
}
