//! Who is attached to an interface: the kernel is asked, not the pins, which may be out of sight.
//!
//! A tcx chain runs from its first program to the first that answers anything but "next"; who comes later never sees
//! the packet (tried: OK, PIPE, RECLASSIFY and numbers that mean nothing are all alike in that), and clsact filters
//! come after all of it. So the authority and the guard have to be the first.

use crate::error::{Error, Result};
use crate::load::interface::interface_index;
use crate::load::object::{EGRESS_NAME, INGRESS_NAME, XDP_NAME};
use crate::neighbour::Neighbour;
use crate::sys::netlink::TcDirection;
use crate::sys::{self, AttachPoint, ChainEntry};
use std::io;

/// The programs of others that see the packets of an interface before onevip's do, with the direction on which
/// ("ingress", "egress"). None when onevip's are not there.
///
/// # Errors
/// When there is no such interface, or the kernel refuses to tell.
pub fn before_ours(interface: &str) -> Result<Vec<(&'static str, Neighbour)>> {
    let ifindex = interface_index(interface)?;
    let mut before = Vec::new();
    for direction in TcDirection::BOTH {
        let chain =
            tcx(ifindex, direction).map_err(Error::system(format!("list the programs of {interface}")))?;
        let mut neighbours: Vec<_> = chain.iter().map(|place| Neighbour::of(place.program)).collect();
        let ours = neighbours.iter().position(|n| OURS.contains(&n.name.as_str()));
        neighbours.truncate(ours.unwrap_or(0));
        before.extend(neighbours.into_iter().map(|neighbour| (direction.word(), neighbour)));
    }
    Ok(before)
}

/// Where tcx has the programs of a direction.
pub(crate) const fn point(direction: TcDirection) -> AttachPoint {
    match direction {
        TcDirection::Ingress => AttachPoint::TcxIngress,
        TcDirection::Egress => AttachPoint::TcxEgress,
    }
}

/// The tcx chain of one direction, the first program first; empty also where the kernel (before 6.6) has none.
pub(crate) fn tcx(ifindex: u32, direction: TcDirection) -> io::Result<Vec<ChainEntry>> {
    match sys::chain(ifindex, point(direction)) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(Vec::new()),
        chain => chain,
    }
}

/// The names under which our programs are known.
pub(crate) const OURS: [&str; 3] = [INGRESS_NAME, EGRESS_NAME, XDP_NAME];
