//! What a check finds, and how a finding is excused.

use std::fmt;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failure {
    /// The file, from the root of the tree.
    pub file: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What an [`Exception`] has to name in order to excuse this.
    pub key: String,
    /// What is wrong, and what to do.
    pub text: String,
}

impl Failure {
    /// A failure at a line; `key` is what excuses it.
    pub fn new(file: &str, line: usize, key: impl Into<String>, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, key: key.into(), text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// A rule that does not hold at one place, for a reason.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// The key of the failures that are excused.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
}

/// What is left of the failures, and one more for each exception that excused nothing or gives no reason.
pub fn excuse(failures: Vec<Failure>, exceptions: &[Exception]) -> Vec<Failure> {
    let mut left: Vec<Failure> =
        failures.iter().filter(|one| exceptions.iter().all(|e| e.what != one.key)).cloned().collect();
    for exception in exceptions {
        if !failures.iter().any(|one| one.key == exception.what) {
            let text = format!("the exception `{}` is not needed any more: remove it", exception.what);
            left.push(Failure::new("crates/onevip-tidy/tests/tidy/exceptions.rs", 0, exception.what, text));
        }
        if exception.why.len() < 10 {
            let text = format!("the exception `{}` says no reason", exception.what);
            left.push(Failure::new("crates/onevip-tidy/tests/tidy/exceptions.rs", 0, exception.what, text));
        }
    }
    left.sort();
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: Exception = Exception { what: "a", why: "a reason to be here" };

    #[test]
    fn an_exception_excuses_what_it_names_alone() {
        let failures =
            vec![Failure::new("x.rs", 1, "a", "too long"), Failure::new("x.rs", 2, "b", "too long")];
        let left = excuse(failures, &[NEEDED]);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].key, "b");
    }

    #[test]
    fn an_exception_that_excuses_nothing_is_a_failure() {
        assert_eq!(excuse(Vec::new(), &[NEEDED]).len(), 1);
    }

    #[test]
    fn an_exception_without_a_reason_is_a_failure() {
        let failures = vec![Failure::new("x.rs", 1, "a", "too long")];
        assert_eq!(excuse(failures, &[Exception { what: "a", why: "" }]).len(), 1);
    }
}
