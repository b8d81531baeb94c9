//! What can go wrong, and what to do about it.

use crate::neighbour::Neighbour;
use std::io;
use std::path::PathBuf;

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the kernel part could not be set up, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration does not fit into the kernel part.
    #[error("{0}")]
    Config(String),
    /// The pin directory is not in a bpffs.
    #[error("{0} is not in a bpffs, so nothing can be pinned there; mount one: mount -t bpf bpf {0}")]
    NotBpffs(PathBuf),
    /// Something in the pin directory was put there by somebody else.
    #[error("{path} is not onevip's ({what}); move it away, or choose another pin directory")]
    ForeignPin {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// A pin that should be there is not.
    #[error("{0} is missing: the kernel part is not set up here (is `onevip run` running?)")]
    NotSetUp(PathBuf),
    /// A pinned map cannot be trusted.
    #[error("{path} is damaged ({why}); `onevip run` rebuilds it")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In what way.
        why: String,
    },
    /// The kernel refused a program. The message ends with the verifier's own words.
    #[error("the kernel refused the program {program}: {reason}{hint}\n{log}")]
    Refused {
        /// Name of the program.
        program: String,
        /// Its errno in words.
        reason: String,
        /// What this kernel lacks, if that is known; else empty.
        hint: String,
        /// The end of the verifier's log, a line of it per line.
        log: String,
    },
    /// The object, its maps or the kernel's type information could not be used.
    #[error("the kernel part cannot be loaded: {reason}{hint}")]
    Load {
        /// Why.
        reason: String,
        /// What this kernel lacks, if that is known; else empty.
        hint: String,
    },
    /// There is no such interface.
    #[error("interface {name} does not exist; this host has: {present}")]
    NoInterface {
        /// The name asked for.
        name: String,
        /// The names there are.
        present: String,
    },
    /// A program could not be attached.
    #[error("cannot attach {what} to {interface}: {source}{hint}")]
    Attach {
        /// Program and way.
        what: String,
        /// Name of the interface.
        interface: String,
        /// What the kernel said.
        source: io::Error,
        /// The likely cause and its remedy, or empty.
        hint: String,
    },
    /// Another onevip that lives serves on the interface.
    #[error(
        "another onevip ({holder}) already runs on {interface}, with another run directory; stop it first: of two on one \
         interface each would drop what the other lets in"
    )]
    Rival {
        /// Name of the interface.
        interface: String,
        /// Its process id in words, or why that is not known.
        holder: String,
    },
    /// Another program takes the first place again and again.
    #[error(
        "{by} takes the place before the {what} of {interface} again and again, though onevip takes it back each time: \
         this node hears and answers only what that program passes on; let it attach behind onevip, or take it off \
         {interface} (bpftool net show dev {interface})"
    )]
    Contested {
        /// Name of the interface.
        interface: String,
        /// "ingress program" or "egress program".
        what: &'static str,
        /// The other program.
        by: Neighbour,
    },
    /// Any other refusal by the system.
    #[error("cannot {action}: {source}{}", privilege_hint(.source))]
    System {
        /// What was tried, on what.
        action: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Wraps `source`, which happened when trying to `action`.
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}

/// What to do when the kernel said no for want of privilege.
pub(crate) fn privilege_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; root is needed, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
        _ => "",
    }
}
