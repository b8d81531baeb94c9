//! Compiles `bpf/*.bpf.c` with clang for the kernel.
//!
//! `CLANG` names another clang. Only clang and the libbpf headers are needed, no kernel sources and no `vmlinux.h`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const REMEDY: &str = "on Debian and Ubuntu: apt-get install clang libbpf-dev";

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for name in ["onevip", "ports"] {
        let source = format!("bpf/{name}.bpf.c");
        if let Err(why) = compile(Path::new(&source), &out.join(format!("{name}.bpf.o"))) {
            for line in why.lines() {
                println!("cargo::error={line}");
            }
        }
    }
}

fn compile(source: &Path, object: &Path) -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let mut command = Command::new(&clang);
    command.args(["-target", "bpf", "-O2", "-g", "-mcpu=v3", "-Wall", "-Wextra", "-Werror"]);
    if let Some(headers) = multiarch_headers() {
        command.arg("-idirafter").arg(headers);
    }
    command.arg("-c").arg(source).arg("-o").arg(object);
    let output = command.output().map_err(|error| {
        format!(
            "cannot run {clang}, which compiles the kernel part of onevip: {error}; {REMEDY} (or set CLANG)"
        )
    })?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let hint = if stderr.contains("file not found") {
        format!("; kernel or libbpf headers are missing, {REMEDY}")
    } else {
        String::new()
    };
    Err(format!("{clang} cannot compile {}{hint}\n{stderr}", source.display()))
}

/// Debian keeps `asm/types.h` in a directory per architecture, which clang does not search for the BPF target.
fn multiarch_headers() -> Option<PathBuf> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").ok()?;
    fs::read_dir("/usr/include").ok()?.flatten().map(|entry| entry.path()).find(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with(&format!("{arch}-linux-")) && path.join("asm/types.h").exists()
    })
}
