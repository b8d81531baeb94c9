//! What nodes ask each other: sealed messages over the way of the beats.
//!
//! A question is a type with the [`Question`](message::Question) trait; whoever can answer it hands a
//! [`QuestionHandler`](message::QuestionHandler) to the [`transport`]; [`nodes`] asks all nodes for a command of this host.

pub mod message;
pub mod nodes;
pub mod transport;
