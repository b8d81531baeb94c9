//! What the kernel part needs of the kernel, and since when Linux has it.
//!
//! Asked only when something was refused, to turn an errno into the name of what is missing. Distributions backport,
//! so the version alone never stops anybody.

use std::path::Path;

/// A feature without which the kernel part cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name, as a kernel's release notes have it.
    pub name: &'static str,
    /// The first Linux that has it: major, minor.
    pub since: (u32, u32),
}

const NEEDED: &[Feature] = &[
    Feature { name: "BPF ring buffers and the boot-time clock", since: (5, 8) },
    Feature { name: "bpf_skc_to_tcp_request_sock()", since: (5, 9) },
    Feature { name: "BPF atomic instructions", since: (5, 12) },
    Feature { name: "pointers as arguments of global BPF functions", since: (5, 12) },
];

/// Where the kernel says how far it is locked down, the mode in force in brackets.
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// Whether programs may read the kernel's memory: not where it keeps its secrets even from root.
pub(crate) fn may_read_kernel() -> bool {
    std::fs::read_to_string(LOCKDOWN).map_or(true, |modes| !modes.contains("[confidentiality]"))
}

/// Where the kernel describes its own types.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What this kernel offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFeatures {
    /// Its release, as `uname -r` has it.
    pub release: String,
    /// Whether it describes its own types (`CONFIG_DEBUG_INFO_BTF`).
    pub btf: bool,
    /// What a kernel of this version lacks, unless a distribution has added it.
    pub lacking: Vec<Feature>,
}

impl KernelFeatures {
    /// Looks at the running kernel. Never fails: what cannot be read counts as present.
    pub fn probe() -> Self {
        let release = nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        Self::of(release, Path::new(KERNEL_BTF).exists())
    }

    fn of(release: String, btf: bool) -> Self {
        let version = version(&release);
        let lacking = NEEDED
            .iter()
            .filter(|feature| version.is_some_and(|version| version < feature.since))
            .copied()
            .collect();
        Self { release, btf, lacking }
    }

    /// The end of an error message: what is missing here, or nothing.
    pub fn hint(&self) -> String {
        let mut missing: Vec<String> = self
            .lacking
            .iter()
            .map(|feature| format!("{} (Linux {}.{})", feature.name, feature.since.0, feature.since.1))
            .collect();
        if !self.btf {
            missing.push(format!("{KERNEL_BTF} (CONFIG_DEBUG_INFO_BTF=y, Linux 5.2)"));
        }
        if missing.is_empty() {
            return String::new();
        }
        format!("; this kernel ({}) lacks: {}", self.release, missing.join(", "))
    }
}

/// Major and minor of a release such as `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_is_told_what_it_lacks_and_which_version_brought_it() {
        let hint = KernelFeatures::of("5.4.0-150-generic".into(), false).hint();
        assert!(hint.contains("5.4.0-150-generic"), "{hint}");
        assert!(hint.contains("ring buffers") && hint.contains("Linux 5.8"), "{hint}");
        assert!(hint.contains("/sys/kernel/btf/vmlinux"), "{hint}");
    }

    #[test]
    fn a_sufficient_or_unreadable_kernel_is_told_nothing() {
        assert_eq!(KernelFeatures::of("6.1.0-18-amd64".into(), true).hint(), "");
        assert_eq!(KernelFeatures::of(String::new(), true).hint(), "");
    }
}
