//! What several test files of the lab need.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use onevip_lab::{Name, netns};

/// Everything of a lab that can be seen from outside, in words.
pub fn traces(wanted: &Name) -> BTreeSet<String> {
    let name = wanted.as_str();
    let mut traces = BTreeSet::new();
    if wanted.dir().exists() {
        traces.insert(format!("directory {}", wanted.dir().display()));
    }
    traces.extend(
        netns::list().iter().filter(|(lab, _)| lab == wanted).map(|(_, host)| format!("netns {host}")),
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_lab = |line: &&str| line.contains(&format!("/onevip-lab/{name}/"));
    traces.extend(mounts.lines().filter(of_lab).map(|line| format!("mount {line}")));
    for tree in ["", "unified", "pids", "memory"].map(|tree| Path::new("/sys/fs/cgroup").join(tree)) {
        if tree.join("onevip-lab").join(name).exists() {
            traces.insert(format!("cgroup in {}", tree.display()));
        }
    }
    traces.extend(processes_naming(&format!("/onevip-lab/{name}/")));
    traces
}

fn processes_naming(path: &str) -> Vec<String> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let line =
        |pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
    pids.map(|pid| format!("process {pid} {}", line(pid))).filter(|line| line.contains(path)).collect()
}
