//! stub
pub mod daemon;
pub mod host;
