//! The rows of events.

use serde_json::{Value, json};

use super::{Cast, Outcomes, Types};
use crate::socket::Socket;

const END: &str = "the end";

/// A cell says whether anything of the kind came, of the group or, at the end, of a group of the listener's own.
pub(super) async fn ask(cast: &Cast, types: &Types, rows: &mut Outcomes) {
    let kinds: Vec<&String> = types
        .objects
        .iter()
        .filter(|(_, object)| object.implements.iter().any(|name| name.node == "Event"))
        .map(|(name, _)| name)
        .collect();
    let of_kind = kinds.iter().map(|kind| {
        let fields = types.fields(kind).map(|field| types.selection(field, ""));
        format!("... on {kind} {{ {} }}", fields.collect::<Vec<_>>().join(" "))
    });
    let of_kind = of_kind.collect::<Vec<_>>().join(" ");
    let document = format!(
        "subscription {{ events {{ __typename {of_kind} ... on ConversationEvent {{ conversation {{ title }} }} }} }}"
    );
    let scene = cast.scene().await;
    let mut sockets = Vec::new();
    for person in &cast.roles {
        let mut socket =
            Socket::initialised(&cast.server, person.as_ref().map(|person| &*person.token)).await;
        socket.subscribe("1", &document, json!({})).await;
        let first = socket.hear().await;
        let refused = first.pointer("/payload/0/extensions/code").and_then(Value::as_str).map(str::to_owned);
        rows.entry("Subscription.events".to_owned())
            .or_default()
            .push(refused.clone().unwrap_or("shown".to_owned()));
        let mut heard = vec![first["payload"]["data"]["events"].clone()];
        if refused.is_none() {
            while heard.last().is_none_or(|event| event["__typename"] != "StreamLive") {
                heard.push(socket.event().await);
            }
        }
        sockets.push((socket, heard, refused));
    }
    for step in [
        "updateGroup(input: { conversationId: \"GROUP\", title: \"x\" })",
        "addMembers(input: { conversationId: \"GROUP\", userIds: [\"LATE\"] })",
        "setMemberRole(input: { conversationId: \"GROUP\", userId: \"LATE\", role: ADMIN })",
        "removeMember(input: { conversationId: \"GROUP\", userId: \"LATE\" })",
    ] {
        cast.done(&scene.of(&format!("mutation {{ {step} {{ userErrors {{ code }} }} }}"))).await;
    }
    cast.server.send(&cast.owner, scene.group, "event").await;
    let marked = scene
        .of("mutation { markRead(input: { conversationId: \"GROUP\", seq: 2 }) { userErrors { code } } }");
    cast.ask(Some(&cast.other), &marked).await;
    for (person, (socket, heard, refused)) in cast.roles.iter().zip(&mut sockets) {
        if refused.is_none() {
            let own = format!(
                "mutation {{ createGroup(input: {{ title: \"{END}\", memberIds: [] }}) {{ userErrors {{ code }} }} }}"
            );
            cast.ask(person.as_ref(), &own).await;
            while heard.last().is_none_or(|event| event["conversation"]["title"] != END) {
                heard.push(socket.event().await);
            }
        }
        for kind in &kinds {
            for field in types.fields(kind) {
                let field = &*field.name.node;
                let mut of_kind = heard.iter().filter(|event| event["__typename"] == **kind);
                let shown = of_kind.any(|event| !event[field].is_null());
                rows.entry(format!("{kind}.{field}"))
                    .or_default()
                    .push(if shown { "shown" } else { "nothing" }.to_owned());
            }
        }
    }
}
