//! The keys that sign tokens and cursors: a folder of files, the same for every node.
//!
//! One file holds one key and is named `<created, Unix ms>-<random hex>.key`; its stem is the key's id (`kid`). What a key
//! signed is accepted as long as its file is there: removing the file retires the key. A new key waits until every node has
//! read it before it signs, so that no node meets a signature that it cannot check.

mod folder;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{DecodingKey, EncodingKey};
use sha2::{Digest as _, Sha256};

use crate::{
    Timestamp,
    port::{Clock, Random},
    tokens::install_crypto,
};

/// How often a node reads the folder again.
pub const RELOAD_PERIOD: Duration = Duration::from_secs(20);
/// How long a new key waits before it signs: three times [`RELOAD_PERIOD`], for slow shared folders and unequal clocks.
pub const SIGNING_DELAY: Duration = Duration::from_mins(1);
/// Bytes of a key: the output of SHA-256, which RFC 7518 section 3.2 asks of a key for HS256.
pub const KEY_BYTES: usize = 32;

/// The first bytes of the SHA-256 of a key's id: what names a key where its id would be too long.
pub(crate) type KeyReference = [u8; 4];

/// Why the keys cannot be used. Each names the file or folder and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is not there; make it and its first key with `confab keys new`, or set CONFAB_KEYS_DIR to the folder that the other nodes have",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("{} holds no signing key; make one with `confab keys new`", .0.display())]
    Empty(PathBuf),
    #[error("{} can be read by others than its owner (mode {mode:03o}); set it to 600", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is not named <created, Unix ms>-<hex>.key", .0.display())]
    Misnamed(PathBuf),
    #[error("{} does not hold 32 bytes in hexadecimal", .0.display())]
    Malformed(PathBuf),
    /// The library that signs tokens does not work in this build.
    #[error("signing and verifying a token failed")]
    SelfTest(#[source] jsonwebtoken::errors::Error),
}

impl KeyError {
    /// Nothing is wrong with the folder, but that it holds no key, or is not there, yet.
    pub fn is_none_yet(&self) -> bool {
        matches!(self, Self::Empty(_) | Self::Missing(_))
    }
}

/// All keys there are. Cheap to clone; every clone sees a reload.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    keys: RwLock<Arc<Keys>>,
}

/// What the folder held when it was read: at least one key.
struct Keys {
    oldest: Arc<Key>,
    /// All of them, the oldest first.
    all: Vec<Arc<Key>>,
}

impl KeyRing {
    /// Reads the folder. Blocks; meant for the start of the process.
    pub fn open(folder: &Path) -> Result<Self, KeyError> {
        install_crypto().map_err(KeyError::SelfTest)?;
        let keys = RwLock::new(read(folder)?);
        Ok(Self { inner: Arc::new(Inner { folder: folder.to_owned(), keys }) })
    }

    /// Adds a key to a folder, which is made when it is missing, and answers the key's id.
    pub fn create(folder: &Path, clock: &dyn Clock, random: &dyn Random) -> Result<String, KeyError> {
        let mut secret = [0; KEY_BYTES];
        let mut suffix = [0; 8];
        random.fill(&mut secret);
        random.fill(&mut suffix);
        let kid = format!("{}-{}", clock.now().millis(), folder::hex(&suffix));
        folder::write(folder, &kid, &secret)?;
        Ok(kid)
    }

    /// Reads the folder again. After an error the keys stay as they were. Blocks for as long as it takes to read.
    pub fn reload(&self) -> Result<(), KeyError> {
        let keys = read(&self.inner.folder)?;
        *self.inner.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// The ids of the keys, oldest first.
    pub fn ids(&self) -> Vec<String> {
        self.keys().all.iter().map(|key| key.id.clone()).collect()
    }

    /// The key to sign with: the newest that every node knows, or else the oldest.
    pub(crate) fn signing(&self, now: Timestamp) -> Arc<Key> {
        let keys = self.keys();
        let known = keys.all.iter().rev().find(|key| key.created_at <= now.minus(SIGNING_DELAY));
        known.unwrap_or(&keys.oldest).clone()
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Key>> {
        self.keys().all.clone()
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<Arc<Key>> {
        self.keys().all.iter().find(|key| key.id == id).cloned()
    }

    pub(crate) fn by_reference(&self, reference: KeyReference) -> Option<Arc<Key>> {
        self.keys().all.iter().find(|key| key.reference == reference).cloned()
    }

    fn keys(&self) -> Arc<Keys> {
        self.inner.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(folder: &Path) -> Result<Arc<Keys>, KeyError> {
    let mut all: Vec<_> = folder::read(folder)?.into_iter().map(Arc::new).collect();
    all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    let oldest = all.first().cloned().ok_or_else(|| KeyError::Empty(folder.to_owned()))?;
    Ok(Arc::new(Keys { oldest, all }))
}

/// One key, as a sub-key a purpose: what signs a cursor can sign no token. The file's own bytes sign nothing.
pub(crate) struct Key {
    pub id: String,
    pub created_at: Timestamp,
    pub reference: KeyReference,
    pub token_signing: EncodingKey,
    pub token_verifying: DecodingKey,
    cursor: Hmac<Sha256>,
    refresh: Hmac<Sha256>,
    network: Hmac<Sha256>,
}

impl Key {
    fn new(id: String, created_at: Timestamp, secret: &[u8; KEY_BYTES]) -> Self {
        let mut reference = KeyReference::default();
        reference.copy_from_slice(&Sha256::digest(id.as_bytes())[..4]);
        let main = hmac(secret);
        let derive = |label: &[u8]| mac_of(&main, label);
        let token = derive(b"confab access token 1");
        Self {
            reference,
            token_signing: EncodingKey::from_secret(&token),
            token_verifying: DecodingKey::from_secret(&token),
            cursor: hmac(&derive(b"confab event cursor 1")),
            refresh: hmac(&derive(b"confab refresh token 1")),
            network: hmac(&derive(b"confab familiar network 1")),
            id,
            created_at,
        }
    }

    /// The MAC of an event cursor.
    pub fn mac_of_cursor(&self, bytes: &[u8]) -> [u8; 32] {
        mac_of(&self.cursor, bytes)
    }

    /// What follows a spent refresh token: only who holds the token and the key can tell.
    pub fn successor_of_token(&self, spent: &[u8]) -> [u8; 32] {
        mac_of(&self.refresh, spent)
    }

    /// Stands for where an account signed in from: nobody without the key can try out addresses.
    pub fn mac_of_network(&self, account_and_network: &[u8]) -> [u8; 32] {
        mac_of(&self.network, account_and_network)
    }
}

fn hmac(secret: &[u8; KEY_BYTES]) -> Hmac<Sha256> {
    // HMAC pads a short key with zeros to the hash's block of 64 bytes (RFC 2104 section 2).
    let mut block = [0; 64];
    block[..KEY_BYTES].copy_from_slice(secret);
    Hmac::new(&block.into())
}

fn mac_of(keyed: &Hmac<Sha256>, bytes: &[u8]) -> [u8; 32] {
    let mut mac = keyed.clone();
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
