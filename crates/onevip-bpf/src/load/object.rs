//! Loading the compiled object: programs and maps, or why not.

use crate::error::{Error, Result};
use crate::load::features::KernelFeatures;
use crate::load::pins::PROGRAMS;
use crate::maps::pinned::MAPS;
use aya::maps::{Map, MapData};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Lines of the verifier's log that an error message shows; the refusal is at its end.
const LOG_LINES: usize = 24;

/// How often the loading of a program is tried: the verifier gives up with EAGAIN when a signal is pending (libbpf
/// tries as often).
const LOAD_TRIES: usize = 5;

/// What clang made of `bpf/`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/onevip.bpf.o"));

/// The names under which the kernel knows the programs.
pub(crate) const INGRESS_NAME: &str = "onevip_ingress";
pub(crate) const EGRESS_NAME: &str = "onevip_egress";
pub(crate) const XDP_NAME: &str = "onevip_xdp";

/// The three programs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub ingress: OwnedFd,
    pub egress: OwnedFd,
    pub xdp: OwnedFd,
}

impl Programs {
    /// The programs with the names of their pins, in the order of [`PROGRAMS`].
    pub(crate) fn named(&self) -> [(&'static str, &OwnedFd); 3] {
        let [ingress, egress, xdp] = PROGRAMS;
        [(ingress, &self.ingress), (egress, &self.egress), (xdp, &self.xdp)]
    }
}

/// A freshly loaded object.
pub(crate) struct Loaded {
    pub programs: Programs,
    /// By the name of their pin.
    pub maps: HashMap<&'static str, MapData>,
}

/// Loads the programs. With `pinned`, they use the maps pinned in that directory, which the caller has checked.
pub(crate) fn load(pinned: Option<&Path>) -> Result<Loaded> {
    load_object(OBJECT, pinned)
}

/// Loads the program that explains, over the maps pinned in this directory, which the caller has checked.
pub(crate) fn load_explain(pinned: &Path) -> Result<OwnedFd> {
    let mut ebpf = open_object(OBJECT, Some(pinned))?;
    load_program(&mut ebpf, "onevip_explain")
}

/// Loads the programs of the guard of ports over the maps pinned in `dir`. They act in the network namespace with this
/// cookie alone, or everywhere when it is 0.
pub(crate) fn load_guards<const N: usize>(
    dir: &Path,
    home: u64,
    programs: [&str; N],
) -> Result<Vec<OwnedFd>> {
    let names = MAPS.map(|map| format!("onevip_{map}"));
    let mut loader = EbpfLoader::new();
    for (map, name) in MAPS.iter().zip(&names) {
        loader.map_pin_path(name, dir.join(map));
    }
    loader.override_global("onevip_home", &home, true);
    let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ports.bpf.o"));
    let mut ebpf = loader.load(object).map_err(load_error)?;
    programs.iter().map(|program| load_program(&mut ebpf, program)).collect()
}

fn open_object(object: &[u8], pinned: Option<&Path>) -> Result<Ebpf> {
    let names = MAPS.map(|map| format!("onevip_{map}"));
    let mut loader = EbpfLoader::new();
    let may_read = u8::from(crate::load::features::may_read_kernel());
    loader.override_global("onevip_may_read_kernel", &may_read, false);
    if let Some(dir) = pinned {
        for (map, name) in MAPS.iter().zip(&names) {
            loader.map_pin_path(name, dir.join(map));
        }
    }
    loader.load(object).map_err(load_error)
}

fn load_object(object: &[u8], pinned: Option<&Path>) -> Result<Loaded> {
    let mut ebpf = open_object(object, pinned)?;
    let programs = Programs {
        ingress: load_program(&mut ebpf, INGRESS_NAME)?,
        egress: load_program(&mut ebpf, EGRESS_NAME)?,
        xdp: load_program(&mut ebpf, XDP_NAME)?,
    };
    let mut maps = HashMap::new();
    for map in MAPS {
        maps.insert(map, take_map(&mut ebpf, &format!("onevip_{map}"))?);
    }
    Ok(Loaded { programs, maps })
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<MapData> {
    match ebpf.take_map(name) {
        Some(Map::Array(map) | Map::PerCpuArray(map) | Map::RingBuf(map) | Map::LpmTrie(map)) => Ok(map),
        _ => Err(Error::Load { reason: format!("the object has no map {name}"), hint: String::new() }),
    }
}

fn load_program(ebpf: &mut Ebpf, name: &str) -> Result<OwnedFd> {
    let missing = || Error::Load { reason: format!("the object has no program {name}"), hint: String::new() };
    let program = ebpf.program_mut(name).ok_or_else(missing)?;
    let mut load = || match program {
        Program::SchedClassifier(program) => Some(program.load()),
        Program::Xdp(program) => Some(program.load()),
        Program::CgroupSockAddr(program) => Some(program.load()),
        _ => None,
    };
    let mut loaded = load().ok_or_else(missing)?;
    for _ in 1..LOAD_TRIES {
        if !loaded.as_ref().is_err_and(was_interrupted) {
            break;
        }
        loaded = load().ok_or_else(missing)?;
    }
    loaded.map_err(|error| program_error(name, error))?;
    let fd = program.fd().map_err(|error| program_error(name, error))?;
    fd.as_fd().try_clone_to_owned().map_err(Error::system(format!("keep the program {name}")))
}

/// Whether the verifier gave up because something wanted the thread's attention.
fn was_interrupted(error: &ProgramError) -> bool {
    matches!(error, ProgramError::LoadError { io_error, .. } if io_error.kind() == io::ErrorKind::WouldBlock)
}

fn load_error(error: EbpfError) -> Error {
    let reason = chain(&error);
    let hint = match io_error(&error) {
        Some(io) if io.kind() == io::ErrorKind::PermissionDenied => {
            crate::error::privilege_hint(io).to_owned()
        }
        _ => KernelFeatures::probe().hint(),
    };
    Error::Load { reason, hint }
}

fn program_error(name: &str, error: ProgramError) -> Error {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return Error::Load { reason: chain(&error), hint: KernelFeatures::probe().hint() };
    };
    // The kernel says EPERM when privilege is missing, and EACCES when the verifier minds the program.
    let hint = match io_error.raw_os_error() {
        Some(libc::EPERM) => crate::error::privilege_hint(&io_error).to_owned(),
        _ => KernelFeatures::probe().hint(),
    };
    Error::Refused {
        program: name.to_owned(),
        reason: io_error.to_string(),
        hint,
        log: log_end(&verifier_log.to_string()),
    }
}

/// The last lines of a verifier's log, indented, without the statistics that follow the refusal.
fn log_end(log: &str) -> String {
    const STATISTICS: [&str; 3] = ["processed ", "verification time", "stack depth"];
    let lines: Vec<&str> = log
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))
        .collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
    let mut text = String::new();
    if shown.len() < lines.len() {
        text.push_str(&format!("  verifier: … ({} lines before)\n", lines.len() - shown.len()));
    }
    for line in shown {
        text.push_str(&format!("  verifier: {line}\n"));
    }
    text.truncate(text.trim_end().len());
    text
}

/// An error with everything that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(io) = error.downcast_ref() {
            return Some(io);
        }
        current = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_the_verifier_refuses_is_reported_in_its_own_words() {
        let dir = std::env::temp_dir().join(format!("onevip-bad-program-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (source, object) = (dir.join("bad.c"), dir.join("bad.o"));
        let bad = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n\
            SEC(\"classifier\") int onevip_ingress(struct __sk_buff *skb) { return *(int *)(long)skb->len; }\n\
            char _license[] SEC(\"license\") = \"Dual BSD/GPL\";\n";
        std::fs::write(&source, bad).unwrap();
        let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
        let mut command = std::process::Command::new(clang);
        command.args(["-target", "bpf", "-O2", "-g", "-idirafter"]);
        command.arg(format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH));
        let built = command.arg("-c").arg(&source).arg("-o").arg(&object).output().unwrap();
        let bytes = std::fs::read(&object);
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

        let error = load_object(&bytes.unwrap(), None).err().unwrap();
        let text = error.to_string();
        assert!(
            text.starts_with("the kernel refused the program onevip_ingress: Permission denied"),
            "{text}"
        );
        assert!(text.lines().last().unwrap().contains("invalid mem access"), "{text}");
    }

    #[test]
    fn only_the_end_of_a_long_verifier_log_is_shown() {
        let log: String = (0..100).map(|line| format!("line {line}\n")).collect::<String>()
            + "R1 invalid mem access 'scalar'\n\nprocessed 12 insns (limit 1000000) max_states_per_insn 0\n";
        let shown = log_end(&log);
        assert!(shown.ends_with("verifier: R1 invalid mem access 'scalar'"), "{shown}");
        assert_eq!(shown.lines().count(), LOG_LINES + 1);
    }
}
