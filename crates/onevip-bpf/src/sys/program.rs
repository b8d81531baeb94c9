//! Running a program over a frame, and programs that are written here, instruction by instruction.

use super::bpf::{BPF_MAP_CREATE, BPF_PROG_LOAD, BPF_PROG_TEST_RUN, bpf, bpf_fd};
use super::element::map_put;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    program: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration_ns: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
}

/// Outcome of [`test_run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRun {
    /// What the program returned the last time.
    pub returned: u32,
    /// Mean duration of one run, in whole ns.
    pub duration_ns: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Runs a loaded program over `frame` as often as `repeat` says (`BPF_PROG_TEST_RUN`), in the network namespace of
/// the calling thread. For tests and benchmarks. Frames shorter than an Ethernet header are refused by the kernel.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> io::Result<TestRun> {
    let mut out = vec![0u8; frame.len() + 256];
    let mut attr = TestRunAttr {
        program: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_size_out: out.len() as u32,
        data_out: out.as_mut_ptr() as u64,
        repeat,
        ..TestRunAttr::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    out.truncate(attr.data_size_out as usize);
    Ok(TestRun { returned: attr.retval, duration_ns: attr.duration_ns, frame: out })
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoadAttr {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct MapCreateAttr {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// A tc program that does what another does, by a tail call: the kernel refuses to have one program twice in a chain.
#[derive(Debug)]
pub(crate) struct StandIn {
    pub program: OwnedFd,
    /// The other program is taken out of it when the last descriptor is closed.
    _calls: OwnedFd,
}

/// Makes a stand-in for a tc program.
pub(crate) fn stand_in(program: BorrowedFd<'_>) -> io::Result<StandIn> {
    const PROG_ARRAY: u32 = 3;
    const SCHED_CLS: u32 = 3;
    let mut array = MapCreateAttr { kind: PROG_ARRAY, key_size: 4, value_size: 4, max_entries: 1, flags: 0 };
    let calls = bpf_fd(BPF_MAP_CREATE, &mut array)?;
    map_put(calls.as_fd(), &0u32, &(program.as_raw_fd() as u32))?;
    let map = (calls.as_raw_fd() as u64) << 32;
    // r2 = the map; r3 = 0; bpf_tail_call, which does not return; or else r0 = TCX_NEXT; exit. (r1 is the packet.)
    let instructions = [0x1218 | map, 0, 0x3b7, 0x85 | 12 << 32, 0xb7 | u64::from(u32::MAX) << 32, 0x95];
    let program = load(SCHED_CLS, &instructions)?;
    Ok(StandIn { program, _calls: calls })
}

/// Loads a program that does nothing but return `result`, to measure what running any program costs. `kind` is a
/// `BPF_PROG_TYPE_*`: 3 for tc, 6 for XDP.
pub fn load_empty(kind: u32, result: i32) -> io::Result<OwnedFd> {
    // mov64 r0, result; exit.
    load(kind, &[0xb7u64 | (result as u32 as u64) << 32, 0x95])
}

fn load(kind: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = ProgramLoadAttr {
        kind,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Dual BSD/GPL".as_ptr() as u64,
    };
    bpf_fd(BPF_PROG_LOAD, &mut attr)
}
