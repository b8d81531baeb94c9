//! What is excused, and why. An entry that excuses nothing fails, as does one without a reason.

use crate::Exception;

/// Files of more than [`crate::size::FILE_LINES_MAX`] lines, by their path.
pub const LONG_FILES: &[Exception] = &[];

/// Functions of more than [`crate::size::FUNCTION_LINES_MAX`] lines, as `path: name`.
pub const LONG_FUNCTIONS: &[Exception] = &[];

/// Circles of files, by the first of their paths.
pub const CIRCLES: &[Exception] = &[];

/// Public types of one name.
pub const SAME_TYPES: &[Exception] = &[Exception {
    what: "Args",
    why: "clap: the options of a command, each called by the path of the command's own module",
}];

/// Structs of more than [`crate::fields::FIELDS_MAX`] fields, as `crate::Name`.
pub const WIDE_STRUCTS: &[Exception] = &[Exception {
    what: "onevip-core::Timing",
    why: "the model of all timers, each derived from the beat time; docs/membership.md names them as its fields",
}];

/// Retired words, as `path: word`.
pub const RETIRED_WORDS: &[Exception] = &[];

/// Public types of one name in the lab.
pub const SAME_LAB_TYPES: &[Exception] = &[];

/// What documents name that looks like a path of this tree and is none.
pub const PATHS: &[Exception] = &[];

/// What documents show that looks like a call of ours and is none, or a wrong one on purpose.
pub const CALLS: &[Exception] = &[];

/// What documents name that looks like a setting and is none, or a wrong one on purpose.
pub const SETTINGS: &[Exception] =
    &[Exception { what: "banaction", why: "fail2ban's own setting, in docs/limits.md" }];
