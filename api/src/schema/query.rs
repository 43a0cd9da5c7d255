//! The query root; one file a field.

pub mod conversation;
pub mod conversations;
pub mod limits;
pub mod node;
pub mod presence_visibility;
pub mod quiet_hours;
pub mod rate_limit;
pub mod sessions;
pub mod user;
pub mod viewer;

use async_graphql::{Context, ID, Object};

use self::user::UserBy;
use super::{
    error::{Nullable, Result},
    paging::PageArguments,
    types::{
        conversation::{Conversation, ConversationConnection},
        limits::{Limits, RateLimit},
        node::Node,
        presence::PresenceVisibility,
        push::{QuietHours, WebPushPublicKey},
        session::Session,
        user::User,
    },
};

pub struct Query;

/// What clients can read. Everything but `viewer`, `sessions`, `limits` and `rateLimit` needs a signed-in caller. What the viewer may not see is
/// answered as if it did not exist.
#[Object]
impl Query {
    /// Fetches an object again by its id. Null for what does not exist, what the viewer may not see, and what is no id.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The `id` of any object of type `Node`.")] id: ID,
    ) -> Nullable<Node> {
        node::node(ctx, &id).await.transpose()
    }

    /// Fetches several objects again by their ids, in the order of the ids, with null in the place of those that `node`
    /// would answer with null.
    async fn nodes(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The `id`s of objects of type `Node`, at most 100.")] ids: Vec<ID>,
    ) -> Result<Vec<Option<Node>>> {
        node::nodes(ctx, &ids).await
    }

    /// The signed-in user; null when signed out.
    async fn viewer(&self, ctx: &Context<'_>) -> Nullable<User> {
        viewer::viewer(ctx).await.transpose()
    }

    /// The viewer's signed-in devices, the newest first; null when signed out.
    async fn sessions(&self, ctx: &Context<'_>) -> Nullable<Vec<Session>> {
        sessions::sessions(ctx).await.transpose()
    }

    /// When the viewer's devices are not pushed to; null when there are no such hours, and when signed out.
    async fn quiet_hours(&self, ctx: &Context<'_>) -> Nullable<QuietHours> {
        quiet_hours::quiet_hours(ctx).await.transpose()
    }

    /// Who may know whether the viewer is there, as `setPresenceVisibility` says; null when signed out.
    async fn presence_visibility(&self, ctx: &Context<'_>) -> Nullable<PresenceVisibility> {
        presence_visibility::presence_visibility(ctx).await.transpose()
    }

    /// Every bound that this server holds clients to.
    async fn limits(&self, ctx: &Context<'_>) -> Option<Limits> {
        limits::limits(ctx)
    }

    /// What this operation costs, and what is left of the budget that it is taken from: the viewer's, or that of the address when
    /// signed out. Null where rates are not limited.
    async fn rate_limit(&self, ctx: &Context<'_>) -> Option<RateLimit> {
        rate_limit::rate_limit(ctx)
    }

    /// The `applicationServerKey` for a browser's `PushManager.subscribe`; null when there is no Web Push here.
    async fn web_push_public_key(&self, ctx: &Context<'_>) -> Option<String> {
        ctx.data_opt::<WebPushPublicKey>().map(|key| key.0.clone())
    }

    /// A person, by id or username; null when there is none.
    async fn user(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "By what to look the person up: exactly one of the fields.")] by: UserBy,
    ) -> Nullable<User> {
        user::user(ctx, by).await.transpose()
    }

    /// One of the viewer's conversations; null when there is none with this id.
    async fn conversation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The conversation's id.")] id: ID,
    ) -> Nullable<Conversation> {
        conversation::conversation(ctx, &id).await.transpose()
    }

    /// The viewer's conversations, latest activity first: the one with the newest message or, where nobody wrote yet, the
    /// latest opened. 20 a page unless `first` or `last` says otherwise. None is listed twice; one that moves up while a
    /// client pages is told by the events of a subscription opened before the first page.
    async fn conversations(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "So many conversations from the latest on or after `after`; 1 to 100.")]
        first: Option<i32>,
        #[graphql(desc = "Only conversations after this cursor.")] after: Option<String>,
        #[graphql(desc = "So many from the end of the list or before `before`; 1 to 100.")] last: Option<i32>,
        #[graphql(desc = "Only conversations before this cursor.")] before: Option<String>,
    ) -> Nullable<ConversationConnection> {
        conversations::conversations(ctx, PageArguments { first, after, last, before }).await.transpose()
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{PathSegment, Request, value};

    use crate::{schema::builder, viewer::Viewer};

    async fn anonymously(document: &str) -> async_graphql::Response {
        builder().finish().execute(Request::new(document).data(Viewer(None))).await
    }

    #[tokio::test]
    async fn a_root_that_fails_leaves_its_siblings() {
        let answer = anonymously(
            "{ viewer { id } sessions { id } node(id: \"x\") { id } nodes(ids: [\"x\", \"y\"]) { id }
                user(by: { username: \"x\" }) { id } conversation(id: \"x\") { id } conversations { nodes { id } } }",
        )
        .await;
        let expected = value!({
            "viewer": null,
            "sessions": null,
            "node": null,
            "nodes": [null, null],
            "user": null,
            "conversation": null,
            "conversations": null,
        });
        assert_eq!(answer.data, expected);
        let mut failed: Vec<_> = answer.errors.iter().map(|error| error.path.clone()).collect();
        failed.sort_by_key(|path| format!("{path:?}"));
        let expected = ["conversation", "conversations", "node", "nodes", "user"];
        assert_eq!(failed, expected.map(|name| vec![PathSegment::Field(name.to_owned())]));
        for error in answer.errors {
            let code = error.extensions.as_ref().and_then(|extensions| extensions.get("code"));
            assert_eq!(code, Some(&value!("UNAUTHENTICATED")), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_mutation_that_fails_leaves_its_siblings() {
        let answer = anonymously(
            "mutation { leaveGroup(input: { conversationId: \"x\" }) { userErrors { code } }
                markRead(input: { conversationId: \"x\", seq: 1 }) { userErrors { code } } }",
        )
        .await;
        assert_eq!(answer.data, value!({ "leaveGroup": null, "markRead": null }));
        assert_eq!(answer.errors.len(), 2);
    }
}
