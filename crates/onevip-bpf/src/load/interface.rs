//! Network interfaces, from their names to their indices.

use crate::error::{Error, Result};
use nix::net::if_::{if_nameindex, if_nametoindex};

/// The index of an interface.
pub(crate) fn interface_index(name: &str) -> Result<u32> {
    if_nametoindex(name).map_err(|_| {
        let names = if_nameindex().map(|all| {
            all.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        });
        Error::NoInterface { name: name.to_owned(), present: names.unwrap_or_default().join(", ") }
    })
}
