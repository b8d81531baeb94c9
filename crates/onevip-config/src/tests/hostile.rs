//! Text that nobody would write.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn any_text_is_examined_and_shown_without_a_panic(text in "\\PC{0,200}|[a-z\\[\\]{}=\", \n\t0-9.-]{0,200}") {
        let (config, found) = Config::inspect_text("f", text);
        prop_assert_eq!(config.is_none(), found.has_mistakes());
        prop_assert!(!found.render(true).is_empty());
    }

    #[test]
    fn a_damaged_file_is_examined_and_shown_without_a_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..30, "[\\[\\]{}=\"',\n0-9a-zü-]{0,4}"), 1..6)
    ) {
        let mut text: Vec<char> = include_str!("../../../../packaging/onevip.toml").replace("\n#", "\n").chars().collect();
        for (at, length, instead) in cuts {
            let start = at.index(text.len().max(1)).min(text.len());
            let end = (start + length).min(text.len());
            text.splice(start..end, instead.chars());
        }
        let (config, found) = Config::inspect_text("f", text.into_iter().collect::<String>());
        prop_assert_eq!(config.is_none(), found.has_mistakes());
        prop_assert!(config.is_some() || !found.render(true).is_empty());
    }
}

#[test]
fn a_deep_nest_is_refused_before_the_stack_ends() {
    let text = format!("cluster = {}", "[".repeat(200_000));
    let (config, found) = Config::inspect_text("f", text);
    assert!(config.is_none() && found.has_mistakes());
}

#[test]
fn noise_is_counted_in_full_but_kept_and_shown_in_part() {
    let (config, found) = Config::inspect_text("f", "x\n".repeat(5000));
    assert!(config.is_none());
    assert_eq!(found.counts(), (5000, 0));
    assert_eq!(found.iter().count(), 1000);
    let shown = found.render(false);
    assert_eq!(shown.matches("not TOML").count(), 100);
    assert!(shown.ends_with("… and 4900 more\n\n5000 mistakes"), "{}", &shown[shown.len() - 80..]);
}
