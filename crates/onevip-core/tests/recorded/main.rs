//! Some hundred recorded lives: the engines still say the same, output by output.
//!
//! A change that is not meant to change behaviour leaves `recorded.txt` as it is. One that is meant to records anew,
//! in the same commit:
//!
//! ```text
//! cargo run --locked -p onevip-core --example record_lives > crates/onevip-core/tests/recorded/recorded.txt
//! ```

mod lines;

#[test]
fn engines_say_what_they_said_when_it_was_recorded() {
    let now = lines::record(lines::FIRST, lines::LIVES, lines::BLOCK);
    let then: Vec<&str> = include_str!("recorded.txt").lines().collect();
    let differ: Vec<&String> = now.iter().filter(|line| !then.contains(&line.as_str())).collect();
    assert!(
        differ.is_empty() && now.len() == then.len(),
        "{} of {} blocks differ from the recording: {differ:#?}",
        differ.len(),
        now.len()
    );
}
