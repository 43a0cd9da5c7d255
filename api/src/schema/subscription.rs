//! The subscription root: it passes on what the hub feeds it.

use std::sync::{Mutex, PoisonError};

use async_graphql::{Context, ID, Subscription};
use futures_util::{StreamExt, stream::BoxStream};

use super::{
    error::{Result, bad_request},
    types::{
        event::{AnyEvent, EventItem},
        scalars::EventCursor,
    },
};

/// The events of one subscription, put into its request by the hub, which has read the arguments; taken once.
pub struct EventFeed(pub Mutex<Option<BoxStream<'static, EventItem>>>);

impl EventFeed {
    pub fn new(events: BoxStream<'static, EventItem>) -> Self {
        Self(Mutex::new(Some(events)))
    }

    fn take(&self) -> Option<BoxStream<'static, EventItem>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

pub struct Subscription;

/// What clients can listen to, over WebSocket with the `graphql-transport-ws` protocol.
#[Subscription]
impl Subscription {
    /// Everything that concerns the viewer as it happens, or only what concerns some conversations. `StreamOpened` comes
    /// first, then what was missed since `after`, then `StreamLive`, then events live. Open it before fetching lists, and
    /// nothing falls between the two.
    async fn events(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The `cursor` of the last event seen, to get what was missed since. A cursor that is too old is \
            answered with `ResyncRequired`. Null starts with what happens now."
        )]
        after: Option<EventCursor>,
        #[graphql(
            desc = "Only events of these conversations, at most 100; null for all. A cursor from a subscription \
            with a filter works only with the same one."
        )]
        conversation_ids: Option<Vec<ID>>,
    ) -> Result<BoxStream<'static, AnyEvent>> {
        let _ = (after, conversation_ids);
        let feed = ctx.data_opt::<EventFeed>().and_then(EventFeed::take);
        let feed = feed.ok_or_else(|| bad_request("subscriptions need graphql-transport-ws"))?;
        Ok(feed.map(AnyEvent::from).boxed())
    }
}
