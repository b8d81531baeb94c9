//! The ways in which programs can be attached, and the words for them.

use std::fmt;
use std::str::FromStr;

/// Whether, and how, XDP drops foreign packets before the authority sees them: the `accelerate` of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Accelerate {
    /// No XDP program. The default.
    #[default]
    Off,
    /// In the driver. Attaching resets the link on some NICs, and limits the MTU.
    Xdp,
    /// In the stack, for interfaces whose driver has no XDP.
    XdpGeneric,
}

impl Accelerate {
    /// Every word that the configuration may have here, and what it means.
    pub const ALL: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("xdp", Self::Xdp), ("xdp-generic", Self::XdpGeneric)];

    /// The word of the configuration, which `status` shows as well.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
        }
    }
}

impl fmt::Display for Accelerate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is none of [`Accelerate::ALL`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("\"{0}\" is no way to accelerate: write \"off\", \"xdp\" or \"xdp-generic\"")]
pub struct NoSuchAccelerate(pub String);

impl FromStr for Accelerate {
    type Err = NoSuchAccelerate;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|(known, _)| *known == word);
        found.map(|(_, accelerate)| *accelerate).ok_or_else(|| NoSuchAccelerate(word.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_for_acceleration_is_read_as_it_is_shown() {
        for (word, accelerate) in Accelerate::ALL {
            assert_eq!(word.parse(), Ok(*accelerate));
            assert_eq!(accelerate.to_string(), *word);
        }
        let error = "xpd".parse::<Accelerate>().unwrap_err().to_string();
        assert!(Accelerate::ALL.iter().all(|(word, _)| error.contains(&format!("\"{word}\""))), "{error}");
    }
}
