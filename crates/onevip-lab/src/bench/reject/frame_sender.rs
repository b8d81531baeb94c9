//! Frames as a driver finds them: made by the kernel's own test runner, and redirected into a node's interface.
//!
//! `BPF_PROG_TEST_RUN` with live frames (Linux 5.18) runs an XDP program over as many copies of a frame as are asked
//! for, and carries out what it decides. Ours redirects to the switch's port, whose other end is the node's interface:
//! there the frames lie in the receive ring without any `sk_buff`, as behind a network card.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use super::receive_path::pin;
use crate::lab::Lab;
use crate::plan::Host;

/// The processor that sends.
const PROCESSOR: usize = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
/// `bpf_redirect()`.
const HELPER_REDIRECT: u64 = 23;

/// The front of `union bpf_attr` for loading.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    padding: [u64; 16],
}

/// The front of `union bpf_attr` for a test run.
#[repr(C)]
#[derive(Default)]
struct TestRunAttributes {
    program: u32,
    returned: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    processor: u32,
    batch_size: u32,
    padding: u32,
}

/// Sends into one node.
pub struct FrameSender {
    program: OwnedFd,
}

impl FrameSender {
    /// For the node of this number.
    ///
    /// # Errors
    /// When the node is not plugged in, or the kernel refuses the program.
    pub fn new(lab: &Lab, id: u8) -> Result<Self> {
        let port = Host::Node(id).to_string();
        let index = lab.inside("switch", || if_nametoindex(port.as_str()))??;
        let program = load(index).context("cannot load a program that redirects frames")?;
        Ok(Self { program })
    }

    /// Sends a frame so many times, as fast as it goes.
    ///
    /// # Errors
    /// When the kernel has no live frames.
    pub fn send(&self, lab: &Lab, frame: &[u8], times: u32) -> Result<()> {
        lab.inside("switch", || {
            pin(0, PROCESSOR)?;
            let mut attributes = TestRunAttributes {
                program: self.program.as_raw_fd() as u32,
                data_size_in: frame.len() as u32,
                data_in: frame.as_ptr() as u64,
                repeat: times,
                flags: BPF_F_TEST_XDP_LIVE_FRAMES,
                ..TestRunAttributes::default()
            };
            bpf(BPF_PROG_TEST_RUN, &mut attributes)
                .context("the kernel sends no live frames (Linux 5.18 does)")?;
            Ok(())
        })?
    }
}

/// A program that redirects every frame to an interface: r1 = index; r2 = 0; call; exit.
fn load(index: u32) -> io::Result<OwnedFd> {
    let instructions =
        [0xb7 | 1 << 8 | u64::from(index) << 32, 0xb7 | 2 << 8, 0x85 | HELPER_REDIRECT << 32, 0x95];
    let mut attributes = LoadAttributes {
        kind: BPF_PROG_TYPE_XDP,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual BSD/GPL".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &mut attributes)?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: pointer and size describe `attributes`, which outlives the call, as does all that it points to.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
