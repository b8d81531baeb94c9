//! The key file: read with care, written by `onevip keygen`.

use anyhow::{Context, bail};
use onevip_core::beat::KeyFile;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The name under which systemd may pass the key (`LoadCredential=onevip-key:…`).
const CREDENTIAL: &str = "onevip-key";

/// Where the key lies: a systemd credential where there is one, else the file of the configuration.
pub fn location(configured: &Path) -> PathBuf {
    let credential = std::env::var_os("CREDENTIALS_DIRECTORY").map(|dir| Path::new(&dir).join(CREDENTIAL));
    credential.filter(|path| path.exists()).unwrap_or_else(|| configured.to_owned())
}

/// Reads a key file that nobody but its owner can read.
///
/// # Errors
/// It is missing, readable by others, owned by somebody else, or not a key file.
pub fn read(path: &Path) -> anyhow::Result<KeyFile> {
    let shown = path.display();
    let mut file = File::open(path).with_context(|| {
        format!("cannot open the key file {shown}; `onevip keygen` makes one, to be copied to all nodes")
    })?;
    let meta = file.metadata().with_context(|| format!("cannot look at the key file {shown}"))?;
    if meta.mode() & 0o077 != 0 {
        bail!(
            "the key file {shown} can be read by others (mode {:o}), so it is no secret: `chmod 600 {shown}`, and if \
             somebody may have read it, make a new key (`onevip keygen --add`)",
            meta.mode() & 0o777
        );
    }
    let me = nix::unistd::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        bail!(
            "the key file {shown} belongs to user {}, who could change it: `chown root {shown}`",
            meta.uid()
        );
    }
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(|| format!("cannot read the key file {shown}"))?;
    KeyFile::parse(&text).with_context(|| format!("the key file {shown} cannot be used"))
}

/// Writes a new key file; never over an existing one.
///
/// # Errors
/// It exists, or cannot be written.
pub fn create(path: &Path, keys: &KeyFile) -> anyhow::Result<()> {
    let shown = path.display();
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => bail!(
            "the key file {shown} exists; to change keys without an interruption use --add, then --promote, then \
             --retire, copying the file to all nodes and `onevip reload`ing them after each step"
        ),
        file => file.with_context(|| format!("cannot create the key file {shown}"))?,
    };
    file.write_all(keys.render().as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write the key file {shown}"))
}

/// Replaces a key file in one step.
///
/// # Errors
/// It cannot be written.
pub fn replace(path: &Path, keys: &KeyFile) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("cannot remove {}", draft.display()));
        }
        _ => {}
    }
    create(&draft, keys)?;
    fs::rename(&draft, path).with_context(|| format!("cannot replace the key file {}", path.display()))
}

/// 32 bytes that nobody can guess.
///
/// # Errors
/// The kernel has none.
pub fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read random numbers")?;
    Ok(bytes)
}
