//! GraphQL documents that clients registered, by the hash of their text. A hint: what is not here is registered again.

use std::sync::Arc;

use async_trait::async_trait;

use crate::DocumentHash;

#[async_trait]
pub trait Documents: Send + Sync {
    /// The text, if it is known here and now.
    async fn get(&self, hash: DocumentHash) -> Option<Arc<str>>;

    /// Keeps a text that is known to be valid and to have this hash. One that is larger than all that may be kept is not.
    async fn put(&self, hash: DocumentHash, text: &str);
}
