//! Signing keys: a folder with one file a key, the same for every node.
//!
//! A file `<created in Unix ms>-<random>.key` holds 32 random bytes in hex, readable by its owner alone; its stem is the key's
//! id. A new key verifies at once and signs only after [`RELOAD_PERIOD`], when every node has read it. A key is retired by
//! removing its file. Each use signs with a key of its own, derived by HMAC-SHA256 from a label.

use std::{
    fmt::Write as _,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::{
    Timestamp,
    port::{Clock, Random},
};

/// How often nodes read the folder again, and how long a new key only verifies.
pub const RELOAD_PERIOD: Duration = Duration::from_mins(1);

const KEY_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{0}: no signing keys; make one with `confab keys new`")]
    Empty(String),
    #[error("{0}: others may read this key; restrict it to its owner (chmod 600)")]
    Exposed(String),
    #[error("{0}: not a key (64 hexadecimal digits in a file <created ms>-<random>.key)")]
    Malformed(String),
}

/// One key with what is derived from it.
pub struct Key {
    pub id: String,
    created_at: Timestamp,
    /// For access tokens.
    pub token: [u8; KEY_BYTES],
    cursor: Hmac<Sha256>,
    refresh: Hmac<Sha256>,
    /// Names the key in cursors.
    pub reference: [u8; 4],
}

impl Key {
    fn new(id: String, created_at: Timestamp, secret: &[u8; KEY_BYTES]) -> Self {
        let derive = |label: &str| {
            let mut mac = keyed(secret);
            mac.update(label.as_bytes());
            <[u8; KEY_BYTES]>::from(mac.finalize().into_bytes())
        };
        let digest = Sha256::digest(id.as_bytes());
        let reference = [digest[0], digest[1], digest[2], digest[3]];
        let (token, cursor, refresh) =
            (derive("access token"), derive("event cursor"), derive("refresh successor"));
        Self { id, created_at, token, cursor: keyed(&cursor), refresh: keyed(&refresh), reference }
    }

    /// The first 16 bytes of the MAC over a cursor.
    pub fn seal_cursor(&self, body: &[u8]) -> [u8; 16] {
        let mut mac = self.cursor.clone();
        mac.update(body);
        let full = mac.finalize().into_bytes();
        let mut short = [0; 16];
        short.copy_from_slice(&full[..16]);
        short
    }

    /// The secret of the refresh token that follows a spent one.
    pub fn successor(&self, spent: &str) -> [u8; KEY_BYTES] {
        let mut mac = self.refresh.clone();
        mac.update(spent.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

fn keyed(key: &[u8; KEY_BYTES]) -> Hmac<Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    Hmac::new_from_slice(key).expect("a key of any length")
}

/// The keys of this installation. Cheap to clone.
#[derive(Clone)]
pub struct KeyRing {
    folder: Arc<PathBuf>,
    clock: Arc<dyn Clock>,
    /// Oldest first.
    keys: Arc<RwLock<Arc<[Arc<Key>]>>>,
}

impl KeyRing {
    /// Reads the folder, which has at least one key.
    pub fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, KeyError> {
        let keys = Arc::new(RwLock::new(read(folder)?));
        Ok(Self { folder: Arc::new(folder.to_owned()), clock, keys })
    }

    /// Adds a key to a folder, which is made if need be; answers the key's id.
    pub fn create(folder: &Path, clock: &dyn Clock, random: &dyn Random) -> Result<String, KeyError> {
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |source| KeyError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder))?;
        let mut bytes = [0; KEY_BYTES + 4];
        random.fill(&mut bytes);
        let (secret, name) = bytes.split_at(KEY_BYTES);
        let id = format!("{}-{}", clock.now().millis(), hex(name));
        let path = folder.join(format!("{id}.key"));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed(&path))?;
        file.write_all(hex(secret).as_bytes()).and_then(|()| file.sync_all()).map_err(failed(&path))?;
        Ok(id)
    }

    /// Reads the folder again. On failure the known keys stay.
    pub fn reload(&self) -> Result<(), KeyError> {
        let keys = read(&self.folder)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn keys(&self) -> Arc<[Arc<Key>]> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest key that every node knows; the oldest when all are new.
    pub fn signing(&self) -> Arc<Key> {
        let keys = self.keys();
        let known_since = self.clock.now().minus(RELOAD_PERIOD);
        let known = keys.iter().rev().find(|key| key.created_at <= known_since);
        known.unwrap_or(&keys[0]).clone()
    }

    pub fn by_id(&self, id: &str) -> Option<Arc<Key>> {
        self.keys().iter().find(|key| key.id == id).cloned()
    }

    pub fn by_reference(&self, reference: [u8; 4]) -> Option<Arc<Key>> {
        self.keys().iter().find(|key| key.reference == reference).cloned()
    }
}

fn read(folder: &Path) -> Result<Arc<[Arc<Key>]>, KeyError> {
    let failed = |source| KeyError::Io { path: folder.display().to_string(), source };
    let mut keys = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "key") {
            keys.push(Arc::new(read_key(&path)?));
        }
    }
    if keys.is_empty() {
        return Err(KeyError::Empty(folder.display().to_string()));
    }
    keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(keys.into())
}

fn read_key(path: &Path) -> Result<Key, KeyError> {
    let name = path.display().to_string();
    let failed = |source| KeyError::Io { path: name.clone(), source };
    let malformed = || KeyError::Malformed(name.clone());
    if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::Exposed(name));
    }
    let id = path.file_stem().and_then(|stem| stem.to_str()).ok_or_else(malformed)?;
    let created_ms: i64 = id.split('-').next().and_then(|ms| ms.parse().ok()).ok_or_else(malformed)?;
    let text = fs::read_to_string(path).map_err(failed)?;
    let secret = unhex(text.trim()).ok_or_else(malformed)?;
    Ok(Key::new(id.to_owned(), Timestamp::from_micros(created_ms.saturating_mul(1000)), &secret))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut bytes = [0; KEY_BYTES];
    let digits = text.as_bytes();
    if digits.len() != KEY_BYTES * 2 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
