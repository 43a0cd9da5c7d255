//! The rows of what is told in passing.

use serde_json::{Value, json};

use super::{Cast, Outcomes, Types};
use crate::{people::SUBSCRIPTION, socket::Socket};

/// A cell says whether anything of the kind came.
pub(super) async fn ask(cast: &Cast, types: &Types, rows: &mut Outcomes) {
    let kinds = ["ActivityOpened", "PresenceChanged", "TypingChanged"];
    let of_kind = kinds.iter().map(|kind| {
        let fields = types.fields(kind).map(|field| match &*field.name.node {
            "presences" => {
                let fields = types.fields("UserPresence").map(|field| types.selection(field, ""));
                format!("presences {{ {} }}", fields.collect::<Vec<_>>().join(" "))
            }
            _ => types.selection(field, ""),
        });
        format!("... on {kind} {{ {} }}", fields.collect::<Vec<_>>().join(" "))
    });
    let of_kind = of_kind.collect::<Vec<_>>().join(" ");
    let scene = cast.scene().await;
    let document = scene
        .of(&format!("subscription {{ activity(conversationIds: [\"GROUP\"]) {{ __typename {of_kind} }} }}"));
    let mut sockets = Vec::new();
    for person in &cast.roles {
        let mut socket =
            Socket::initialised(&cast.server, person.as_ref().map(|person| &*person.token)).await;
        socket.subscribe("1", &document, json!({})).await;
        let first = socket.hear().await;
        let refused = first.pointer("/payload/0/extensions/code").and_then(Value::as_str).map(str::to_owned);
        rows.entry("Subscription.activity".to_owned())
            .or_default()
            .push(refused.clone().unwrap_or("shown".to_owned()));
        sockets.push((socket, vec![first["payload"]["data"]["activity"].clone()], refused));
    }
    let _there = cast.server.subscribe(&cast.owner, SUBSCRIPTION, json!({})).await;
    let typing =
        scene.of("mutation { setTyping(input: { conversationId: \"GROUP\", typing: true }) { expiresAt } }");
    cast.ask(Some(&cast.owner), &typing).await;
    for (socket, heard, refused) in &mut sockets {
        let has = |heard: &[Value], kind: &str| heard.iter().any(|event| event["__typename"] == kind);
        while refused.is_none() && !kinds.iter().all(|kind| has(heard, kind)) {
            heard.push(socket.hear().await["payload"]["data"]["activity"].clone());
        }
        let found = |shown: bool| if shown { "shown" } else { "nothing" }.to_owned();
        for kind in kinds {
            for field in types.fields(kind) {
                let field = &*field.name.node;
                let mut of_kind = heard.iter().filter(|event| event["__typename"] == kind);
                let shown = of_kind.any(|event| !event[field].is_null());
                rows.entry(format!("{kind}.{field}")).or_default().push(found(shown));
            }
        }
        for field in types.fields("UserPresence") {
            let field = &*field.name.node;
            let shown = !heard[0]["presences"][0][field].is_null();
            rows.entry(format!("UserPresence.{field}")).or_default().push(found(shown));
        }
    }
}
