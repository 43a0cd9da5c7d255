//! The subscription root: it passes on what the hub feeds it.

use std::sync::{Mutex, PoisonError};

use async_graphql::{Context, ID, Subscription};
use futures_util::{StreamExt, stream::BoxStream};

use super::{
    error::{Result, bad_request},
    types::{
        activity::{ActivityEvent, ActivityItem},
        event::{AnyEvent, EventItem},
        scalars::EventCursor,
    },
};

/// The events of one subscription, put into its request by the hub, which has read the arguments; taken once.
pub type EventFeed = Feed<EventItem>;

/// What one subscription to `activity` is told, as above.
pub type ActivityFeed = Feed<ActivityItem>;

pub struct Feed<T>(Mutex<Option<BoxStream<'static, T>>>);

impl<T> Feed<T> {
    pub fn new(events: BoxStream<'static, T>) -> Self {
        Self(Mutex::new(Some(events)))
    }

    fn take(&self) -> Option<BoxStream<'static, T>> {
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
    #[expect(clippy::unused_async, reason = "a resolver is async, whatever it does")]
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

    /// Who is there and who is typing, of some users and conversations: told in passing, without a cursor. `ActivityOpened` comes first, with
    /// what is so now; changes follow. After a reconnect, subscribe anew. A user or conversation that does not exist, or that the viewer has
    /// nothing to do with, is `NOT_FOUND`.
    #[expect(clippy::unused_async, reason = "a resolver is async, whatever it does")]
    async fn activity(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Users whose presence to tell, at most 100: people the viewer talks to.")]
        user_ids: Option<Vec<ID>>,
        #[graphql(
            desc = "Conversations of the viewer, at most 100: who types in them, and the presence of their members. Not of members of large \
            groups (more than 500 members, unless the operator says otherwise), where nobody is told of typing either."
        )]
        conversation_ids: Option<Vec<ID>>,
    ) -> Result<BoxStream<'static, ActivityEvent>> {
        let _ = (user_ids, conversation_ids);
        let feed = ctx.data_opt::<ActivityFeed>().and_then(ActivityFeed::take);
        let feed = feed.ok_or_else(|| bad_request("subscriptions need graphql-transport-ws"))?;
        Ok(feed.map(ActivityEvent::from).boxed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_graphql::{Request, value};
    use domain::{
        Content, Conversation, ConversationId, ConversationKind, Event, Fact, Mentions, Message, MessageId,
        Timestamp, UserId,
    };
    use futures_util::stream;

    use super::*;
    use crate::schema::{
        builder,
        types::event::{AsSeen, EventBody},
    };

    fn conversation() -> Arc<Conversation> {
        Arc::new(Conversation {
            id: ConversationId::group(7),
            kind: ConversationKind::Group,
            title: Some("Tea".into()),
            created_at: Timestamp::from_micros(0),
            last_seq: 3,
            rev: 9,
            countable: 3,
            member_count: 2,
            active_at: Timestamp::from_micros(0),
            pos: 1,
            title_pos: 1,
            title_rev: 1,
            senders: domain::RecentSenders::default(),
        })
    }

    fn message() -> Arc<Message> {
        Arc::new(Message {
            id: MessageId(5),
            conversation: ConversationId::group(7),
            seq: 3,
            rev: 9,
            created_rev: 9,
            pos: 1,
            sender: None,
            client_key: None,
            content_hash: [0; 16],
            content: Content::Text("hello".into()),
            mentions: Mentions::default(),
            created_at: Timestamp::from_micros(1_234_567),
            countable: 3,
        })
    }

    fn item(body: EventBody) -> EventItem {
        EventItem { cursor: "position".into(), body }
    }

    fn durable(fact: Fact, as_seen: AsSeen) -> EventItem {
        let message = matches!(fact, Fact::MessageSent { .. }).then(message);
        let event = Event { fact, conversation: Some(conversation()), message, member: None, trace: None };
        item(EventBody::Durable { event: Arc::new(event), as_seen })
    }

    async fn answers(document: &str, events: Vec<EventItem>) -> Vec<async_graphql::Response> {
        let request = Request::new(document).data(EventFeed::new(stream::iter(events).boxed()));
        builder().finish().execute_stream(request).collect().await
    }

    #[tokio::test]
    async fn fragments_on_both_interfaces_and_on_objects_work_in_one_subscription() {
        let document = "subscription { events { __typename cursor
            ... on ConversationEvent { rev conversation { title lastSeq } }
            ... on MessageSent { message { seq createdAt content { ... on TextContent { text } }
                conversation { kind } } } } }";
        let sent = Fact::MessageSent { conversation: ConversationId::group(7), rev: 9, seq: 3 };
        let events = vec![item(EventBody::StreamOpened), durable(sent, AsSeen::MessageSent)];
        let answers = answers(document, events).await;
        assert!(answers.iter().all(|answer| answer.errors.is_empty()), "{answers:?}");
        let data: Vec<_> = answers.into_iter().map(|answer| answer.data).collect();
        let opened = value!({ "events": { "__typename": "StreamOpened", "cursor": "position" } });
        let sent = value!({ "events": {
            "__typename": "MessageSent",
            "cursor": "position",
            "rev": 9,
            "conversation": { "title": "Tea", "lastSeq": 3 },
            "message": {
                "seq": 3,
                "createdAt": "1970-01-01T00:00:01.234Z",
                "content": { "text": "hello" },
                "conversation": { "kind": "GROUP" },
            },
        } });
        assert_eq!(data, [opened, sent]);
    }

    #[tokio::test]
    async fn who_is_removed_gets_a_stub_of_the_conversation() {
        let document = "subscription { events { ... on MemberRemoved { conversation { id kind createdAt title lastSeq
            unreadCount lastMessage { id } viewerMember { id } members { nodes { id } } messages { nodes { id } } } } } }";
        let left = Fact::MemberLeft { conversation: ConversationId::group(7), rev: 9, user: UserId(4) };
        let answers = answers(document, vec![durable(left, AsSeen::MemberRemovedSelf)]).await;
        assert_eq!(answers[0].errors, []);
        let conversation = value!({
            "id": ConversationId::group(7).to_string(),
            "kind": "GROUP",
            "createdAt": "1970-01-01T00:00:00.000Z",
            "title": null,
            "lastSeq": 0,
            "unreadCount": 0,
            "lastMessage": null,
            "viewerMember": null,
            "members": null,
            "messages": null,
        });
        assert_eq!(answers[0].data, value!({ "events": { "conversation": conversation } }));
    }

    #[tokio::test]
    async fn only_objects_are_possible_events() {
        let document = "{ event: __type(name: \"Event\") { possibleTypes { kind } }
            inner: __type(name: \"ConversationEvent\") { possibleTypes { kind } } }";
        let answer = builder().finish().execute(document).await.data.into_json().expect("JSON");
        for (name, count) in [("event", 10), ("inner", 7)] {
            let types = answer[name]["possibleTypes"].as_array().expect("a list");
            assert_eq!(types.len(), count);
            assert!(types.iter().all(|ty| ty["kind"] == "OBJECT"), "{types:?}");
        }
    }

    #[tokio::test]
    async fn without_a_feed_a_subscription_is_a_bad_request() {
        let schema = builder().finish();
        let answer = schema.execute_stream("subscription { events { cursor } }").next().await;
        let errors = answer.expect("an answer").errors;
        let code = errors[0].extensions.as_ref().and_then(|extensions| extensions.get("code"));
        assert_eq!(code, Some(&value!("BAD_REQUEST")));
    }
}
