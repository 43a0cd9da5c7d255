//! Each kind of change as a subscription tells it, live and again; and what cannot be told.

use std::collections::BTreeSet;

use domain::{
    MemberRole, Title,
    service::{
        add_members::AddMembers, mark_read::MarkRead, remove_member::RemoveMember,
        set_member_role::SetMemberRole, update_group::UpdateGroup,
    },
};
use sea_orm::ConnectionTrait as _;
use serde_json::{Value, json};

use crate::people::{SUBSCRIPTION, names, node};

/// Everything that an event of each kind can say.
const EVERYTHING: &str =
    "subscription($after: EventCursor, $ids: [ID!]) { events(after: $after, conversationIds: $ids) {
    __typename cursor
    ... on ConversationEvent { rev conversation { id title } }
    ... on MessageSent { message { seq content { ... on TextContent { text } ... on SystemContent { text } } } }
    ... on ReadMarked { user { id } readSeq }
    ... on MemberAdded { member { user { id } role } }
    ... on MemberRemoved { user { id } }
    ... on MemberChanged { member { user { id } role } } } }";

/// An event without what names its place: its kind and what it says.
fn said(event: &Value) -> Value {
    let mut said = event.clone();
    if let Some(fields) = said.as_object_mut() {
        fields.remove("cursor");
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_change_is_told_live_and_told_again_to_who_resumes() {
    let node = node().await;
    let (ada, bob, eve) = (node.person("ada").await, node.person("bob").await, node.person("eve").await);
    let elsewhere = node.device("bob").await;
    let (mut live, opened) = node.subscribe(&bob, EVERYTHING, json!({})).await;
    let (mut on_the_other, _) = node.subscribe(&elsewhere, EVERYTHING, json!({})).await;
    let start = &opened[1]["cursor"];

    let id = node.group(&ada, &bob).await;
    let add = AddMembers { conversation: id, users: vec![eve.caller.user] };
    node.chat.add_members(&ada.caller, add).await.expect("added");
    let promote = SetMemberRole { conversation: id, user: eve.caller.user, role: MemberRole::Admin };
    node.chat.set_member_role(&ada.caller, promote).await.expect("promoted");
    let title = Some(Title::new("Coffee".to_owned()).expect("a title"));
    node.chat.update_group(&ada.caller, UpdateGroup { conversation: id, title }).await.expect("renamed");
    node.send(&ada, id, "k").await;
    node.chat.mark_read(&bob.caller, MarkRead { conversation: id, seq: 4 }).await.expect("marked");
    node.chat.mark_read(&eve.caller, MarkRead { conversation: id, seq: 3 }).await.expect("marked");
    let remove = RemoveMember { conversation: id, user: eve.caller.user };
    node.chat.remove_member(&ada.caller, remove).await.expect("removed");

    let (bob_id, eve_id) = (bob.caller.user.to_string(), eve.caller.user.to_string());
    let member = |role: &str| json!({ "user": { "id": eve_id }, "role": role });
    let table: [(&str, &str, Value); 11] = [
        ("ConversationAdded", "title", json!("Tea")),
        ("MemberAdded", "member", member("MEMBER")),
        ("MessageSent", "seq", json!(1)),
        ("MemberChanged", "member", member("ADMIN")),
        ("MessageSent", "seq", json!(2)),
        ("ConversationChanged", "title", json!("Coffee")),
        ("MessageSent", "seq", json!(3)),
        ("MessageSent", "seq", json!(4)),
        ("ReadMarked", "readSeq", json!({ "user": bob_id, "readSeq": 4 })),
        ("ReadMarked", "readSeq", json!({ "user": eve_id, "readSeq": 3 })),
        ("MemberRemoved", "user", json!(eve_id)),
    ];
    let mut told = Vec::new();
    for (kind, what, expected) in &table {
        let event = live.event().await;
        let value = match *what {
            "title" => event["conversation"]["title"].clone(),
            "seq" => event["message"]["seq"].clone(),
            "readSeq" => json!({ "user": event["user"]["id"], "readSeq": event["readSeq"] }),
            "user" => event["user"]["id"].clone(),
            field => event[field].clone(),
        };
        assert_eq!((event["__typename"].as_str(), &value), (Some(*kind), expected), "{event}");
        assert_eq!(event["conversation"]["id"], id.to_string());
        // The reader's other device hears the same, its own mark included.
        assert_eq!(said(&on_the_other.event().await), said(&event));
        told.push(event);
    }
    assert_eq!(live.event().await["message"]["seq"], 5, "what was said of the removal");

    // From each event on, what is replayed ends in the state that was told live; what is superseded is left out.
    let (_, replayed) = node.subscribe(&bob, EVERYTHING, json!({ "after": start })).await;
    assert_eq!(names(&replayed)[..2], ["StreamOpened", "ConversationAdded"]);
    for (index, event) in told.iter().enumerate() {
        let (_, rest) = node.subscribe(&bob, EVERYTHING, json!({ "after": event["cursor"] })).await;
        let rest: Vec<&Value> = rest.iter().filter(|event| event["rev"].is_i64()).collect();
        let revs: Vec<i64> = rest.iter().filter_map(|event| event["rev"].as_i64()).collect();
        assert!(revs.is_sorted() && revs.iter().collect::<BTreeSet<_>>().len() == revs.len(), "{revs:?}");
        let superseded = |later: &Value| {
            // What concerned a member who has gone since is their removal.
            later["__typename"] != "MemberRemoved"
                && later["__typename"] != "MessageSent"
                && (later["member"]["user"]["id"] == eve_id || later["user"]["id"] == eve_id)
        };
        for later in told[index + 1..].iter().filter(|later| !superseded(later)) {
            let again = rest.iter().find(|event| event["rev"] == later["rev"]);
            let again = again.unwrap_or_else(|| panic!("after event {index}, {later} is not told: {rest:?}"));
            let (again, later) = (said(again), said(later));
            for field in ["__typename", "rev", "message", "user", "readSeq", "member"] {
                assert_eq!(again[field], later[field]);
            }
        }
    }
    // Member events that nothing has superseded are replayed as such.
    let before = node.subscribe(&bob, SUBSCRIPTION, json!({})).await.1[1]["cursor"].clone();
    let add = AddMembers { conversation: id, users: vec![eve.caller.user] };
    node.chat.add_members(&ada.caller, add).await.expect("added again");
    let joined = node.subscribe(&bob, SUBSCRIPTION, json!({})).await.1[1]["cursor"].clone();
    let promote = SetMemberRole { conversation: id, user: eve.caller.user, role: MemberRole::Admin };
    node.chat.set_member_role(&ada.caller, promote).await.expect("promoted");
    node.chat.mark_read(&eve.caller, MarkRead { conversation: id, seq: 7 }).await.expect("marked");
    for (after, expected) in [
        (
            before,
            vec![
                "StreamOpened",
                "MemberAdded",
                "MessageSent",
                "MemberChanged",
                "MessageSent",
                "ReadMarked",
                "StreamLive",
            ],
        ),
        (joined, vec!["StreamOpened", "MemberChanged", "MessageSent", "ReadMarked", "StreamLive"]),
    ] {
        let (_, replayed) = node.subscribe(&bob, EVERYTHING, json!({ "after": after })).await;
        assert_eq!(names(&replayed), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_fails_ends_its_own_operation_and_no_event_is_stepped_over() {
    let node = node().await;
    let (ada, bob, eve) = (node.person("ada").await, node.person("bob").await, node.person("eve").await);
    let id = node.group(&ada, &bob).await;
    let add = AddMembers { conversation: id, users: vec![eve.caller.user] };
    node.chat.add_members(&ada.caller, add).await.expect("added");
    let failing = "subscription($after: EventCursor) { events(after: $after) { __typename cursor ... on ReadMarked { user { id } readSeq } } }";
    let sound = "subscription($after: EventCursor) { events(after: $after) { __typename cursor ... on ReadMarked { readSeq } } }";
    let (mut of_ada, _) = node.subscribe(&ada, failing, json!({})).await;
    let (mut socket, opened) = node.subscribe(&bob, failing, json!({})).await;
    socket.subscribe("2", sound, json!({})).await;
    for kind in ["StreamOpened", "StreamLive"] {
        assert_eq!(socket.event().await["__typename"], kind);
    }

    // A row that everything relies on is gone: `ReadMarked.user` fails, and is not nullable.
    let row = format!("FROM user_account WHERE id = {}", eve.caller.user.0);
    for sql in [format!("CREATE TABLE gone AS SELECT * {row}"), format!("DELETE {row}")] {
        node.store.connection().execute_unprepared(&sql).await.expect("deletes");
    }
    node.chat.mark_read(&eve.caller, MarkRead { conversation: id, seq: 1 }).await.expect("marked");
    let mut heard = [socket.hear().await, socket.hear().await];
    heard.sort_by_key(|message| message["id"].to_string());
    let internal = |message: &Value| {
        assert_eq!(
            (message["type"].as_str(), message["id"].as_str()),
            (Some("error"), Some("1")),
            "{message}"
        );
        assert_eq!(message["payload"][0]["extensions"]["code"], "INTERNAL", "{message}");
        assert!(!message.to_string().contains("does not exist"), "nothing internal is told: {message}");
    };
    internal(&heard[0]);
    assert_eq!(heard[1]["payload"]["data"]["events"]["readSeq"], 1, "{}", heard[1]);
    internal(&of_ada.hear().await);

    // The socket and its other operation live on.
    node.send(&ada, id, "k").await;
    assert_eq!(socket.event().await["__typename"], "MessageSent");
    // Whoever comes back is told of the same event again, as long as it fails; and gets it once it does not.
    let after = json!({ "after": opened[1]["cursor"] });
    socket.subscribe("1", failing, after.clone()).await;
    assert_eq!(socket.event().await["__typename"], "StreamOpened");
    internal(&socket.hear().await);
    let (_, missed) = node.subscribe(&bob, sound, after.clone()).await;
    assert_eq!(names(&missed), ["StreamOpened", "ReadMarked", "MessageSent", "StreamLive"]);
    node.store
        .connection()
        .execute_unprepared("INSERT INTO user_account SELECT * FROM gone")
        .await
        .expect("back");
    let (_, missed) = node.subscribe(&bob, failing, after).await;
    assert_eq!(names(&missed), ["StreamOpened", "ReadMarked", "MessageSent", "StreamLive"]);
}
