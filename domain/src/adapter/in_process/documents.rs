//! Documents that a process keeps for itself.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use lru::LruCache;

use crate::{DocumentBounds, DocumentHash, port::Documents};

pub struct InProcessDocuments {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    texts: LruCache<DocumentHash, Arc<str>>,
    bytes: usize,
}

impl InProcessDocuments {
    pub fn new(bounds: DocumentBounds) -> Self {
        let texts = LruCache::new(NonZeroUsize::new(bounds.documents_max).unwrap_or(NonZeroUsize::MIN));
        Self { bytes_max: bounds.bytes_max, kept: Mutex::new(Kept { texts, bytes: 0 }) }
    }
}

#[async_trait]
impl Documents for InProcessDocuments {
    async fn get(&self, hash: DocumentHash) -> Option<Arc<str>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).texts.get(&hash).cloned()
    }

    async fn put(&self, hash: DocumentHash, text: &str) {
        if text.len() > self.bytes_max {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *kept;
        kept.bytes += text.len();
        if let Some((_, replaced)) = kept.texts.push(hash, text.into()) {
            kept.bytes -= replaced.len();
        }
        while kept.bytes > self.bytes_max
            && let Some((_, oldest)) = kept.texts.pop_lru()
        {
            kept.bytes -= oldest.len();
        }
    }
}
