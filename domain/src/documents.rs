//! Documents that clients registered: near in this process, far where processes share them.

use std::sync::Arc;

use crate::{Chat, DocumentHash, port::Documents};

/// What a process knows by itself, and what all know; `far` is `None` where there is one process, or each has only its own.
pub(crate) struct SharedDocuments {
    pub near: Arc<dyn Documents>,
    pub far: Option<Arc<dyn Documents>>,
}

impl Chat {
    /// The text of a registered document.
    pub async fn document(&self, hash: DocumentHash) -> Option<Arc<str>> {
        let SharedDocuments { near, far } = &self.local.documents;
        if let Some(text) = near.get(hash).await {
            return Some(text);
        }
        let text = far.as_ref()?.get(hash).await?;
        near.put(hash, &text).await;
        Some(text)
    }

    /// Registers a document that is known to be valid.
    pub async fn keep_document(&self, hash: DocumentHash, text: &str) {
        let SharedDocuments { near, far } = &self.local.documents;
        near.put(hash, text).await;
        if let Some(far) = far {
            far.put(hash, text).await;
        }
    }
}
