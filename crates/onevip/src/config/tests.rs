//! What the configuration accepts and refuses, seen from outside: text in, a configuration or mistakes out.

use super::*;

#[test]
fn the_shipped_example_is_in_order() {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/onevip.toml"));
    let (config, found) = Config::inspect(path);
    assert!(found.is_empty(), "{found}");
    assert_eq!(config.expect("no mistakes").nodes.len(), 4);
}
