//! What happens, for people: records, who is told of them, and the log.

pub mod bus;
pub mod log;
pub mod record;
pub mod words;
