//! The ways in which programs can be attached, and the words for them.

use std::fmt;

/// Whether, and how, XDP drops foreign packets before the authority sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Accelerate {
    /// No XDP. The default.
    #[default]
    Off,
    /// In the driver. Attaching resets the link on some NICs, and limits the MTU.
    Xdp,
    /// In the stack, for any interface.
    XdpGeneric,
}

impl fmt::Display for Accelerate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
        })
    }
}

/// How the tc programs are attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TcMode {
    /// As pinned tcx links (Linux 6.6).
    Tcx,
    /// As filters of a clsact qdisc.
    Clsact,
}

impl fmt::Display for TcMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// How the programs are attached to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttachMode {
    /// The authority and the guard.
    pub tc: TcMode,
    /// The early dropper; `Off` when there is none.
    pub xdp: Accelerate,
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.xdp {
            Accelerate::Off => write!(f, "{}", self.tc),
            xdp => write!(f, "{} behind {xdp}", self.tc),
        }
    }
}

/// Which way of attaching to tc to choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AttachPreference {
    /// tcx where the kernel has it, else clsact.
    #[default]
    Auto,
    /// clsact, also where the kernel has tcx.
    Clsact,
}

impl AttachPreference {
    /// [`AttachPreference::Clsact`] when the environment says `ONEVIP_ATTACH=clsact`.
    pub fn from_env() -> Self {
        match std::env::var("ONEVIP_ATTACH").as_deref() {
            Ok("clsact") => Self::Clsact,
            _ => Self::Auto,
        }
    }
}
