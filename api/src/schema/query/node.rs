//! Objects by their ids alone.

use async_graphql::{Context, Error, ID, PathSegment};
use futures_util::future::join_all;

use crate::schema::{
    error::{Failure, Result},
    id::{self, NodeId},
    request::RequestContext,
    types::{message::Message, node::Node, session::Session},
};

pub async fn node(ctx: &Context<'_>, id: &ID) -> Result<Option<Node>> {
    let caller = ctx.caller()?;
    let loaders = ctx.loaders();
    let Some(id) = NodeId::parse(id) else { return Ok(None) };
    Ok(match id {
        NodeId::User(id) => loaders.user(id).await?.map(|user| Node::User(user.into())),
        NodeId::Session(id) => {
            loaders.session(id).await?.map(|session| Node::Session(Session::new(session, caller.session)))
        }
        NodeId::Conversation(id) => {
            loaders.conversation(id).await?.map(|view| Node::Conversation(view.into()))
        }
        NodeId::Member(id) => loaders.member(id).await?.map(|member| Node::Member(member.into())),
        NodeId::Message(id) => loaders.message(id).await?.map(|message| Node::Message(Message::new(message))),
    })
}

/// A hole and an error for each id whose backend failed; the others are answered.
pub async fn nodes(ctx: &Context<'_>, ids: &[ID]) -> Result<Vec<Option<Node>>> {
    if let Err(error) = ctx.caller() {
        add_error(ctx, None, error.into());
        return Ok(ids.iter().map(|_| None).collect());
    }
    id::check_count(ids, ctx.chat().limits().ids_max)?;
    let found = join_all(ids.iter().map(|id| node(ctx, id))).await;
    let or_hole = |(index, outcome): (usize, Result<Option<Node>>)| {
        outcome.unwrap_or_else(|failure| {
            add_error(ctx, Some(index), failure);
            None
        })
    };
    Ok(found.into_iter().enumerate().map(or_hole).collect())
}

/// The list is not nullable: an error that is returned would take the siblings of `nodes` with it.
fn add_error(ctx: &Context<'_>, index: Option<usize>, failure: Failure) {
    let mut error = ctx.set_error_path(Error::from(failure).into_server_error(ctx.item.pos));
    error.path.extend(index.map(PathSegment::Index));
    ctx.add_error(error);
}
