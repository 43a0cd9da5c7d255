//! Reads of one request, batched: what resolvers ask for one by one goes to a service as one list, so that permission
//! checks run as everywhere. Nothing is cached, because a subscription is one request and lasts for days.

use std::{
    any::TypeId,
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use async_graphql::{
    Request,
    dataloader::{DataLoader, Loader},
};
use domain::{
    Caller, Chat, ConversationId, ConversationView, Member, MemberId, Message, MessageId, Page, PageRequest,
    Presence, PushProvider, ServiceError, ServiceResult, Session, SessionId, Timestamp, User, UserId,
    port::conversations::HistoryPage,
};

use super::{
    batching::{Batches, Stage},
    error,
};
use crate::viewer::Viewer;

pub struct Loaders {
    chat: Chat,
    viewer: Option<Caller>,
    batches: Arc<Batches>,
    /// Made when something is read: most mutations read nothing here.
    entities: OnceLock<DataLoader<Reads>>,
    users: OnceLock<DataLoader<Reads>>,
}

impl Loaders {
    pub fn new(chat: &Chat, viewer: Option<Caller>) -> Self {
        let (batches, entities, users) = (Arc::new(Batches::default()), OnceLock::new(), OnceLock::new());
        Self { chat: chat.clone(), viewer, batches, entities, users }
    }

    fn entities(&self) -> &DataLoader<Reads> {
        self.entities.get_or_init(|| self.loader(Stage::Early))
    }

    fn users(&self) -> &DataLoader<Reads> {
        self.users.get_or_init(|| self.loader(Stage::Late))
    }

    fn loader(&self, stage: Stage) -> DataLoader<Reads> {
        let reads = Reads { chat: self.chat.clone(), viewer: Viewer(self.viewer) };
        let queue = self.batches.queue(stage);
        DataLoader::new(reads, queue.clone(), queue)
    }

    /// The batches of the loaders in a request's data.
    pub fn batches_of(request: &Request) -> Option<Arc<Batches>> {
        let loaders = request.data.get(&TypeId::of::<Self>())?.downcast_ref::<Self>()?;
        Some(Arc::clone(&loaders.batches))
    }

    pub async fn user(&self, id: UserId) -> ServiceResult<Option<User>> {
        self.users().load_one(UserKey(id)).await
    }

    /// What is unread in all conversations of the viewer together; `None` of anybody else.
    pub async fn total_unread_count(&self, id: UserId) -> ServiceResult<Option<i32>> {
        if self.viewer.is_none_or(|viewer| viewer.user != id) {
            return Ok(None);
        }
        self.users().load_one(TotalUnreadKey).await
    }

    pub async fn presence(&self, id: UserId) -> ServiceResult<Option<Presence>> {
        self.users().load_one(PresenceKey(id)).await
    }

    pub async fn session(&self, id: SessionId) -> ServiceResult<Option<Session>> {
        self.entities().load_one(SessionKey(id)).await
    }

    pub async fn push_provider(&self, id: SessionId) -> ServiceResult<Option<PushProvider>> {
        self.entities().load_one(ProviderKey(id)).await
    }

    pub async fn muted_until(&self, id: ConversationId) -> ServiceResult<Option<Timestamp>> {
        self.entities().load_one(MuteKey(id)).await
    }

    pub async fn conversation(&self, id: ConversationId) -> ServiceResult<Option<ConversationView>> {
        self.entities().load_one(ConversationKey(id)).await
    }

    pub async fn member(&self, id: MemberId) -> ServiceResult<Option<Member>> {
        self.entities().load_one(MemberKey(id)).await
    }

    pub async fn members(
        &self,
        conversation: ConversationId,
        request: PageRequest<UserId>,
    ) -> ServiceResult<Page<Member>> {
        let page = self.entities().load_one(MemberPageKey { conversation, request }).await?;
        Ok(page.unwrap_or_else(Page::empty))
    }

    pub async fn history(
        &self,
        conversation: ConversationId,
        request: PageRequest<i32>,
    ) -> ServiceResult<Page<Arc<Message>>> {
        let page = self.entities().load_one(HistoryKey(HistoryPage { conversation, request })).await?;
        Ok(page.unwrap_or_else(Page::empty))
    }

    pub async fn message(&self, id: MessageId) -> ServiceResult<Option<Arc<Message>>> {
        self.entities().load_one(MessageKey(id)).await
    }

    pub async fn message_at(
        &self,
        conversation: ConversationId,
        seq: i32,
    ) -> ServiceResult<Option<Arc<Message>>> {
        self.entities().load_one(PlaceKey(conversation, seq)).await
    }
}

/// Rows of history in one read: with the longest texts, what fits one answer of the domain.
const HISTORY_ROWS_MAX: u32 = 2000;

/// Reads as the viewer.
struct Reads {
    chat: Chat,
    viewer: Viewer,
}

type Found<K, V> = Result<HashMap<K, V>, ServiceError>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct UserKey(UserId);

impl Loader<UserKey> for Reads {
    type Value = User;
    type Error = ServiceError;

    async fn load(&self, keys: &[UserKey]) -> Found<UserKey, User> {
        let ids: Vec<_> = keys.iter().map(|key| key.0).collect();
        let found = self.chat.users(self.viewer.caller()?, &ids).await.map_err(error::shared)?;
        Ok(found.into_iter().map(|(id, user)| (UserKey(id), user)).collect())
    }
}

/// There is one viewer: whoever asks for it at the same time shares one read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct TotalUnreadKey;

impl Loader<TotalUnreadKey> for Reads {
    type Value = i32;
    type Error = ServiceError;

    async fn load(&self, _keys: &[TotalUnreadKey]) -> Found<TotalUnreadKey, i32> {
        let total = self.chat.total_unread_count(self.viewer.caller()?).await.map_err(error::shared)?;
        Ok(HashMap::from([(TotalUnreadKey, total)]))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct PresenceKey(UserId);

impl Loader<PresenceKey> for Reads {
    type Value = Presence;
    type Error = ServiceError;

    async fn load(&self, keys: &[PresenceKey]) -> Found<PresenceKey, Presence> {
        let ids: Vec<_> = keys.iter().map(|key| key.0).collect();
        let found = self.chat.presences(self.viewer.caller()?, &ids).await.map_err(error::shared)?;
        Ok(found.into_iter().map(|(id, presence)| (PresenceKey(id), presence)).collect())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct SessionKey(SessionId);

impl Loader<SessionKey> for Reads {
    type Value = Session;
    type Error = ServiceError;

    /// A user has few sessions: reading them all answers for any number of ids.
    async fn load(&self, _keys: &[SessionKey]) -> Found<SessionKey, Session> {
        let found = self.chat.sessions(self.viewer.caller()?).await.map_err(error::shared)?;
        Ok(found.into_iter().map(|session| (SessionKey(session.id), session)).collect())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ProviderKey(SessionId);

impl Loader<ProviderKey> for Reads {
    type Value = PushProvider;
    type Error = ServiceError;

    async fn load(&self, _keys: &[ProviderKey]) -> Found<ProviderKey, PushProvider> {
        let found = self.chat.push_providers(self.viewer.caller()?).await.map_err(error::shared)?;
        Ok(found.into_iter().map(|(id, provider)| (ProviderKey(id), provider)).collect())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct MuteKey(ConversationId);

impl Loader<MuteKey> for Reads {
    type Value = Timestamp;
    type Error = ServiceError;

    async fn load(&self, keys: &[MuteKey]) -> Found<MuteKey, Timestamp> {
        let ids: Vec<_> = keys.iter().map(|key| key.0).collect();
        let found = self.chat.muted(self.viewer.caller()?, &ids).await.map_err(error::shared)?;
        Ok(found.into_iter().map(|(id, until)| (MuteKey(id), until)).collect())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ConversationKey(ConversationId);

impl Loader<ConversationKey> for Reads {
    type Value = ConversationView;
    type Error = ServiceError;

    async fn load(&self, keys: &[ConversationKey]) -> Found<ConversationKey, ConversationView> {
        let ids: Vec<_> = keys.iter().map(|key| key.0).collect();
        let found = self.chat.conversations(self.viewer.caller()?, &ids).await.map_err(error::shared)?;
        Ok(found.into_iter().map(|(id, view)| (ConversationKey(id), view)).collect())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct MemberKey(MemberId);

impl Loader<MemberKey> for Reads {
    type Value = Member;
    type Error = ServiceError;

    async fn load(&self, keys: &[MemberKey]) -> Found<MemberKey, Member> {
        let ids: Vec<_> = keys.iter().map(|key| key.0).collect();
        let found = self.chat.members(self.viewer.caller()?, &ids).await.map_err(error::shared)?;
        Ok(found.into_iter().map(|(id, member)| (MemberKey(id), member)).collect())
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct MemberPageKey {
    conversation: ConversationId,
    request: PageRequest<UserId>,
}

impl Loader<MemberPageKey> for Reads {
    type Value = Page<Member>;
    type Error = ServiceError;

    /// The same page of many conversations is one read; a field asks for the same page of all its parents.
    async fn load(&self, keys: &[MemberPageKey]) -> Found<MemberPageKey, Page<Member>> {
        let caller = self.viewer.caller()?;
        let mut by_request: HashMap<&PageRequest<UserId>, Vec<ConversationId>> = HashMap::new();
        for key in keys {
            by_request.entry(&key.request).or_default().push(key.conversation);
        }
        let mut pages = HashMap::with_capacity(keys.len());
        for (request, conversations) in by_request {
            let found =
                self.chat.list_members(caller, &conversations, request).await.map_err(error::shared)?;
            pages.extend(found.into_iter().map(|(conversation, page)| {
                (MemberPageKey { conversation, request: request.clone() }, page)
            }));
        }
        Ok(pages)
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct HistoryKey(HistoryPage);

impl Loader<HistoryKey> for Reads {
    type Value = Page<Arc<Message>>;
    type Error = ServiceError;

    /// Pages of many conversations are one read, as many of them as have this many rows at most.
    async fn load(&self, keys: &[HistoryKey]) -> Found<HistoryKey, Page<Arc<Message>>> {
        let caller = self.viewer.caller()?;
        let mut found = HashMap::with_capacity(keys.len());
        let mut rows = keys.first().map_or(0, |key| key.0.request.size);
        let fits = |_: &HistoryKey, next: &HistoryKey| {
            rows += next.0.request.size;
            let begins = rows > HISTORY_ROWS_MAX;
            if begins {
                rows = next.0.request.size;
            }
            !begins
        };
        for keys in keys.chunk_by(fits) {
            let pages: Vec<_> = keys.iter().map(|key| key.0.clone()).collect();
            let read = self.chat.histories(caller, &pages).await.map_err(error::shared)?;
            found.extend(keys.iter().cloned().zip(read));
        }
        Ok(found)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct MessageKey(MessageId);

impl Loader<MessageKey> for Reads {
    type Value = Arc<Message>;
    type Error = ServiceError;

    async fn load(&self, keys: &[MessageKey]) -> Found<MessageKey, Arc<Message>> {
        let ids: Vec<_> = keys.iter().map(|key| key.0).collect();
        let found = self.chat.messages(self.viewer.caller()?, &ids).await.map_err(error::shared)?;
        Ok(found.into_iter().map(|(id, message)| (MessageKey(id), message)).collect())
    }
}

/// A message by its place: conversation and `seq`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct PlaceKey(ConversationId, i32);

impl Loader<PlaceKey> for Reads {
    type Value = Arc<Message>;
    type Error = ServiceError;

    async fn load(&self, keys: &[PlaceKey]) -> Found<PlaceKey, Arc<Message>> {
        let places: Vec<_> = keys.iter().map(|key| (key.0, key.1)).collect();
        let found = self.chat.messages_at(self.viewer.caller()?, &places).await.map_err(error::shared)?;
        Ok(found.into_iter().map(|((id, seq), message)| (PlaceKey(id, seq), message)).collect())
    }
}
