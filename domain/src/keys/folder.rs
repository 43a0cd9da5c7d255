//! Key files: reading, checking and writing them.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{KEY_BYTES, Key, KeyError};
use crate::Timestamp;

const EXTENSION: &str = "key";

pub(super) fn read(folder: &Path) -> Result<Vec<Key>, KeyError> {
    let mut keys = Vec::new();
    let entries = fs::read_dir(folder).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeyError::Missing(folder.to_owned()),
        _ => failed(folder, source),
    })?;
    for entry in entries {
        let path = entry.map_err(|source| failed(folder, source))?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            keys.push(read_key(&path)?);
        }
    }
    Ok(keys)
}

fn read_key(path: &Path) -> Result<Key, KeyError> {
    let (id, created_at) = parse_name(path).ok_or_else(|| KeyError::Misnamed(path.to_owned()))?;
    check_mode(path)?;
    let text = fs::read_to_string(path).map_err(|source| failed(path, source))?;
    let secret = unhex(text.trim_end()).ok_or_else(|| KeyError::Malformed(path.to_owned()))?;
    Ok(Key::new(id, created_at, &secret))
}

fn parse_name(path: &Path) -> Option<(String, Timestamp)> {
    let id = path.file_stem()?.to_str()?;
    let (created, random) = id.split_once('-')?;
    let digits = !created.is_empty() && created.bytes().all(|byte| byte.is_ascii_digit());
    let hex = (1..=64).contains(&random.len()) && random.bytes().all(|byte| byte.is_ascii_hexdigit());
    let micros = created.parse::<i64>().ok()?.checked_mul(1000)?;
    (digits && hex).then(|| (id.to_owned(), Timestamp(micros)))
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = fs::metadata(path).map_err(|source| failed(path, source))?.permissions().mode() & 0o777;
    let of_others = mode & 0o077;
    if of_others == 0 { Ok(()) } else { Err(KeyError::Exposed { path: path.to_owned(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_path: &Path) -> Result<(), KeyError> {
    Ok(())
}

/// Writes a key whole or not at all: another node may be reading the folder.
pub(super) fn write(folder: &Path, id: &str, secret: &[u8; KEY_BYTES]) -> Result<(), KeyError> {
    private_folder().create(folder).map_err(|source| failed(folder, source))?;
    let unfinished = folder.join(format!(".{id}.unfinished"));
    let path = folder.join(format!("{id}.{EXTENSION}"));
    let write = |to: &PathBuf| {
        let mut file = private_file().open(to)?;
        writeln!(file, "{}", hex(secret))?;
        file.sync_all()?;
        fs::rename(to, &path)?;
        // The name is as durable as the content only once the folder is.
        File::open(folder)?.sync_all()
    };
    write(&unfinished).map_err(|source| failed(&path, source))
}

fn private_folder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn failed(path: &Path, source: io::Error) -> KeyError {
    KeyError::Io { path: path.to_owned(), source }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    if text.len() != KEY_BYTES * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}
