//! What is asked of the kernel in its own words: bpf(2) and rtnetlink, as far as this crate speaks them itself.
//!
//! aya loads the programs; pins, links and test runs are done here, because a link that aya owns is detached when the
//! process exits, and ours must outlive it. Nothing here knows what onevip is.

mod bpf;
mod element;
mod info;
mod link;
pub(crate) mod netlink;
mod netns;
mod pin;
mod program;

pub(crate) use element::{array_read, map_get, map_next_key, map_put, map_put_locked, map_remove};
pub(crate) use info::{
    LINK_TCX, LINK_XDP, ObjectKind, kind, link_by_id, link_info, map_by_id, map_info, name_of, program_by_id,
    program_info, program_maps, xdp_link_of,
};
pub(crate) use link::{
    AttachPoint, BEFORE_ALL, ChainEntry, XDP_GENERIC, XDP_NATIVE, chain, link_create, link_create_on,
    link_detach, link_is_on_cgroup, link_update,
};
pub(crate) use netns::netns_cookie;
pub(crate) use pin::{FRESH_SUFFIX, open, pin_over, remove_if_there};
pub(crate) use program::stand_in;
pub use program::{TestRun, load_empty, test_run};
