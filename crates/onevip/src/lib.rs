//! stub
pub mod host;
