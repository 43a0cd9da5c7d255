//! What everybody fetches at the end, to be compared with what they were told.

use std::{collections::BTreeMap, sync::PoisonError};

use futures_util::{StreamExt as _, stream};

use crate::{actors::Stage, client::User, journal::View};

/// Users who fetch at once.
const AT_ONCE: usize = 8;

impl Stage {
    pub async fn fetch_all(&self) {
        stream::iter(0..self.users.len())
            .for_each_concurrent(AT_ONCE, async |user| self.fetch_all_of(user).await)
            .await;
        let folds = self
            .devices
            .iter()
            .map(|device| device.fold.lock().unwrap_or_else(PoisonError::into_inner).clone());
        self.journal().folds = folds.collect();
    }

    async fn fetch_all_of(&self, user: usize) {
        let User { id, token, .. } = &self.users[user];
        for (conversation, _) in self.groups.iter().filter(|(_, members)| members.contains(&user)) {
            let mut before: Option<String> = None;
            let mut view = None;
            while let Some(page) = self.api.page(user, token, conversation, before.as_deref()).await {
                let whole = view.get_or_insert_with(|| View {
                    user: id.clone(),
                    conversation: conversation.clone(),
                    messages: BTreeMap::new(),
                    read_seq: page.read_seq,
                    unread: page.unread,
                    title: page.title,
                    members: page.members,
                });
                whole.messages.extend(page.messages);
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            self.journal().views.extend(view);
        }
        if let Some(total) = self.api.total_unread(user, token).await {
            self.journal().totals.insert(id.clone(), total);
        }
    }
}
