//! Getting the kernel part into the kernel, and keeping it there: load, pin, attach, look after, take off.
//!
//! Maps are made and found here; what is in them is the business of [`crate::maps`].

pub(crate) mod attach;
pub(crate) mod chain;
pub(crate) mod clsact;
pub(crate) mod explain;
pub(crate) mod features;
pub(crate) mod first;
pub(crate) mod inspect;
pub(crate) mod interface;
pub(crate) mod kernel;
pub(crate) mod link;
pub(crate) mod mode;
pub(crate) mod object;
pub(crate) mod pins;
pub(crate) mod ports;
pub(crate) mod repair;
pub(crate) mod rival;
pub(crate) mod view;
