//! Who sees what and may do what: every field of every object of the schema, asked for by everybody.
//!
//! The rows are made of the schema itself, so that a new field fails until its row is there; the cells are what a running node answers.
//! `authorisation.txt` is what was agreed on: `CONFAB_UPDATE=1` writes it afresh, and its difference is what to look at. Interfaces have no
//! rows; the objects that implement them have. What is asked for belongs to a group, or to its owner, but for what names the viewer.

#![expect(clippy::disallowed_methods, reason = "the file is written when the environment says so")]

mod activity;
mod events;

use std::{collections::BTreeMap, env, fmt::Write as _, fs, sync::Arc};

use api::{hub::HubLimits, schema, settings::Settings};
use async_graphql::parser::{
    parse_schema,
    types::{BaseType, FieldDefinition, ObjectType, TypeKind, TypeSystemDefinition},
};
use domain::{
    ConversationId, Limits, MemberRole, adapter::ambient::SystemClock,
    service::set_member_role::SetMemberRole,
};
use reqwest::header;
use serde_json::{Value, json};

use crate::{
    people::Person,
    test_server::{JSON, TestServer, answer},
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/authorisation.txt");
const ROLES: [&str; 5] = ["anonymous", "stranger", "removed", "member", "admin"];

type Outcomes = BTreeMap<String, Vec<String>>;

/// The objects of the schema, and the names of all types that have fields.
struct Types {
    objects: BTreeMap<String, ObjectType>,
    composite: Vec<String>,
}

fn types() -> Types {
    let document = parse_schema(schema::sdl()).expect("the schema");
    let mut types = Types { objects: BTreeMap::new(), composite: Vec::new() };
    for definition in document.definitions {
        let TypeSystemDefinition::Type(definition) = definition else { continue };
        let name = definition.node.name.node.to_string();
        match definition.node.kind {
            TypeKind::Object(object) => {
                types.composite.push(name.clone());
                types.objects.insert(name, object);
            }
            TypeKind::Interface(_) | TypeKind::Union(_) => types.composite.push(name),
            TypeKind::Scalar | TypeKind::Enum(_) | TypeKind::InputObject(_) => {}
        }
    }
    types
}

impl Types {
    /// A field with what has to stand behind it.
    fn selection(&self, field: &FieldDefinition, arguments: &str) -> String {
        fn base(of: &BaseType) -> &str {
            match of {
                BaseType::Named(name) => name,
                BaseType::List(of) => base(&of.base),
            }
        }
        let below = base(&field.ty.node.base);
        let below = if self.composite.iter().any(|name| name == below) { " { __typename }" } else { "" };
        format!("{}{arguments}{below}", field.name.node)
    }

    fn fields(&self, object: &str) -> impl Iterator<Item = &FieldDefinition> {
        self.objects[object].fields.iter().map(|field| &field.node)
    }
}

/// How an object is reached from the root of a query; `%` is where its field goes.
fn way(object: &str) -> Option<&'static str> {
    Some(match object {
        "Query" => "{ % }",
        "Conversation" => "{ conversation(id: \"GROUP\") { % } }",
        "ConversationConnection" => "{ conversations { % } }",
        "ConversationEdge" => "{ conversations { edges { % } } }",
        "PageInfo" => "{ conversation(id: \"GROUP\") { messages { pageInfo { % } } } }",
        "MemberConnection" => "{ conversation(id: \"GROUP\") { members { % } } }",
        "MemberEdge" => "{ conversation(id: \"GROUP\") { members { edges { % } } } }",
        "Member" => "{ node(id: \"MEMBERSHIP\") { ... on Member { % } } }",
        "MessageConnection" => "{ conversation(id: \"GROUP\") { messages { % } } }",
        "MessageEdge" => "{ conversation(id: \"GROUP\") { messages { edges { % } } } }",
        "Message" => "{ node(id: \"MESSAGE\") { ... on Message { % } } }",
        "TextContent" => {
            "{ node(id: \"MESSAGE\") { ... on Message { content { ... on TextContent { % } } } } }"
        }
        "SystemContent" => {
            "{ node(id: \"SYSTEM\") { ... on Message { content { ... on SystemContent { % } } } } }"
        }
        "User" => "{ node(id: \"OWNER\") { ... on User { % } } }",
        "Session" => "{ node(id: \"SESSION\") { ... on Session { % } } }",
        "QuietHours" => "{ quietHours { % } }",
        "Presence" => "{ node(id: \"OWNER\") { ... on User { presence { % } } } }",
        "Limits" => "{ limits { % } }",
        "Budget" => "{ limits { userBudget { % } } }",
        "RateLimit" => "{ rateLimit { % } }",
        "UserError" => {
            "mutation { refreshSession(input: { refreshToken: \"nonsense\" }) { userErrors { % } } }"
        }
        // Whoever knows the password.
        "Credentials" => {
            "mutation { signIn(input: { username: \"owner\", password: \"correct horse\" }) { credentials { % } } }"
        }
        _ => return None,
    })
}

/// The arguments that a field cannot do without.
fn arguments(object: &str, field: &str) -> &'static str {
    match (object, field) {
        ("Query", "nodes") => "(ids: [\"GROUP\"])",
        ("Query", "user") => "(by: { username: \"owner\" })",
        ("Query", "node" | "conversation") => "(id: \"GROUP\")",
        _ => "",
    }
}

/// The input of a mutation, about a group of its own.
fn input(mutation: &str) -> &'static str {
    match mutation {
        "register" => "username: \"NAME\", password: \"correct horse\", displayName: \"x\"",
        "signIn" => "username: \"owner\", password: \"wrong horse\"",
        "refreshSession" => "refreshToken: \"nonsense\"",
        "changePassword" => "currentPassword: \"wrong horse\", newPassword: \"correct horse\"",
        "updateProfile" => "displayName: \"x\"",
        "renewConnection" => "accessToken: \"nonsense\"",
        "openDirectConversation" => "userId: \"OWNER\"",
        "createGroup" => "title: \"x\", memberIds: []",
        "updateGroup" => "conversationId: \"GROUP\", title: \"x\"",
        "addMembers" => "conversationId: \"GROUP\", userIds: [\"LATE\"]",
        "removeMember" => "conversationId: \"GROUP\", userId: \"OTHER\"",
        "setMemberRole" => "conversationId: \"GROUP\", userId: \"OTHER\", role: ADMIN",
        "sendMessage" => {
            "conversationId: \"GROUP\", clientMessageId: \"NAME\", content: { text: { text: \"x\" } }"
        }
        "markRead" => "conversationId: \"GROUP\", seq: 1",
        "registerDevice" => "device: { fcm: { token: \"NAME\" } }",
        "signOut" | "unregisterDevice" => "sessionId: \"SESSION\"",
        "leaveGroup" | "muteConversation" => "conversationId: \"GROUP\"",
        "setPresence" => "away: true",
        "setPresenceVisibility" => "presenceVisibility: EVERYONE_I_TALK_TO",
        "setTyping" => "conversationId: \"GROUP\", typing: true",
        "setQuietHours" => "quietHours: { starts: \"22:00\", ends: \"07:00\", timeZone: \"Europe/Zurich\" }",
        other => panic!("say what to call {other} with"),
    }
}

struct Cast {
    server: TestServer,
    owner: Person,
    late: Person,
    other: Person,
    /// In the order of the roles; nobody is anonymous.
    roles: Vec<Option<Person>>,
}

/// What the placeholders stand for.
struct Scene {
    group: ConversationId,
    names: Vec<(&'static str, String)>,
}

impl Cast {
    async fn gather() -> Self {
        // With limits on rates, which are there to be asked for.
        let (clock, settings) = (Arc::new(SystemClock), Settings::default());
        let server = TestServer::of(clock, settings, HubLimits::default(), Limits::default()).await;
        let (owner, late) = (server.person("owner").await, server.person("late").await);
        let (other, mut roles) = (server.person("other").await, vec![None]);
        for name in &ROLES[1..] {
            roles.push(Some(server.person(name).await));
        }
        Self { server, owner, late, other, roles }
    }

    fn role(&self, name: &str) -> &Person {
        let place = ROLES.iter().position(|role| *role == name).expect("a role");
        self.roles[place].as_ref().expect("somebody")
    }

    /// A group in which everybody is what they are called.
    async fn scene(&self) -> Scene {
        let (server, owner) = (&self.server, &self.owner);
        let group = server.group(owner, &self.other).await;
        let users: Vec<_> = ["removed", "member", "admin"]
            .iter()
            .map(|name| self.role(name).caller.user.to_string())
            .collect();
        let ids = users.iter().map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(", ");
        let add = format!(
            "mutation {{ addMembers(input: {{ conversationId: \"{group}\", userIds: [{ids}] }}) {{ userErrors {{ code }} }} }}"
        );
        self.done(&add).await;
        let (user, role) = (self.role("admin").caller.user, MemberRole::Admin);
        let command = SetMemberRole { conversation: group, user, role };
        server.chat.set_member_role(&owner.caller, command).await.expect("an admin");
        self.done(&format!(
            "mutation {{ removeMember(input: {{ conversationId: \"{group}\", userId: \"{}\" }}) {{ userErrors {{ code }} }} }}",
            users[0]
        ))
        .await;
        server.send(owner, group, &format!("k{group}")).await;
        let seen = self
            .ask(
                Some(owner),
                &format!(
                    "{{ sessions {{ id }} conversation(id: \"{group}\") {{ viewerMember {{ id }}
                    first: messages(first: 1) {{ nodes {{ id }} }} last: messages(last: 1) {{ nodes {{ id }} }} }} }}"
                ),
            )
            .await;
        let id = |path: &str| {
            seen.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: {seen}")).to_owned()
        };
        let names = vec![
            ("GROUP", group.to_string()),
            ("MEMBERSHIP", id("/data/conversation/viewerMember/id")),
            ("MESSAGE", id("/data/conversation/last/nodes/0/id")),
            ("SYSTEM", id("/data/conversation/first/nodes/0/id")),
            ("SESSION", id("/data/sessions/0/id")),
            ("OWNER", owner.caller.user.to_string()),
            ("OTHER", self.other.caller.user.to_string()),
            ("LATE", self.late.caller.user.to_string()),
        ];
        Scene { group, names }
    }

    async fn done(&self, mutation: &str) {
        let answer = self.ask(Some(&self.owner), mutation).await;
        assert!(!answer.to_string().contains("code"), "{mutation}: {answer}");
    }

    async fn ask(&self, person: Option<&Person>, document: &str) -> Value {
        let mut request = self.server.post(JSON, json!({ "query": document }).to_string());
        if let Some(person) = person {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", person.token));
        }
        answer(request).await.json()
    }
}

impl Scene {
    fn of(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (name, id)| text.replace(name, id))
    }
}

/// What came of asking for the field at the end of a path: `shown`, `null`, `hidden` (something above it is null), or a code.
fn outcome(answer: &Value, way: &str, field: &str) -> String {
    if let Some(code) = answer.pointer("/errors/0/extensions/code").and_then(Value::as_str) {
        return code.to_owned();
    }
    let steps = way.split(['{', '}', ' ']).filter_map(|word| {
        let name = word.split('(').next().unwrap_or_default();
        let plain = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphabetic());
        (plain && !matches!(name, "on" | "mutation") && name.starts_with(char::is_lowercase)).then_some(name)
    });
    let mut at = &answer["data"];
    for step in steps {
        at = at.get(step).unwrap_or(&Value::Null);
        if let Value::Array(items) = at {
            at = items.first().unwrap_or(&Value::Null);
        }
        if at.is_null() {
            return "hidden".to_owned();
        }
    }
    match at.get(field) {
        Some(Value::Array(items)) if items.iter().all(Value::is_null) && !items.is_empty() => {
            "null".to_owned()
        }
        Some(value) if !value.is_null() => "shown".to_owned(),
        _ => "null".to_owned(),
    }
}

async fn queries(cast: &Cast, types: &Types, rows: &mut Outcomes) {
    let scene = cast.scene().await;
    for person in &cast.roles {
        let hours = input("setQuietHours");
        cast.ask(
            person.as_ref(),
            &format!("mutation {{ setQuietHours(input: {{ {hours} }}) {{ userErrors {{ code }} }} }}"),
        )
        .await;
    }
    for object in types.objects.keys() {
        let Some(way) = way(object) else { continue };
        for field in types.fields(object) {
            let name = &*field.name.node;
            let document = scene.of(&way.replace('%', &types.selection(field, arguments(object, name))));
            for person in &cast.roles {
                let answer = cast.ask(person.as_ref(), &document).await;
                rows.entry(format!("{object}.{name}")).or_default().push(outcome(&answer, way, name));
            }
        }
    }
}

/// A mutation's own cell says what became of it; the cells of its payload's fields whether they are shown.
async fn mutations(cast: &Cast, types: &Types, rows: &mut Outcomes) {
    for mutation in types.fields("Mutation") {
        let name = mutation.name.node.to_string();
        let payload = mutation.ty.node.base.to_string();
        let fields: Vec<&FieldDefinition> = types.fields(&payload).collect();
        let selections = fields.iter().map(|field| match &*field.name.node {
            "userErrors" => "userErrors { code }".to_owned(),
            _ => types.selection(field, ""),
        });
        let selections = selections.collect::<Vec<_>>().join(" ");
        for (place, person) in cast.roles.iter().enumerate() {
            let scene = cast.scene().await;
            let input = scene.of(input(&name)).replace("NAME", &format!("new{place}"));
            let document = format!("mutation {{ {name}(input: {{ {input} }}) {{ {selections} }} }}");
            let answer = cast.ask(person.as_ref(), &document).await;
            let top = answer.pointer("/errors/0/extensions/code").and_then(Value::as_str);
            let answered = &answer["data"][&name];
            let code = top.or_else(|| answered.pointer("/userErrors/0/code").and_then(Value::as_str));
            rows.entry(format!("Mutation.{name}")).or_default().push(code.unwrap_or("done").to_owned());
            for field in &fields {
                let field = &*field.name.node;
                let shown = match answered.get(field) {
                    None | Some(Value::Null) if answered.is_null() => "hidden",
                    None | Some(Value::Null) => "null",
                    Some(_) => "shown",
                };
                rows.entry(format!("{payload}.{field}")).or_default().push(shown.to_owned());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_answers_every_role_as_agreed() {
    let (cast, types, mut rows) = (Cast::gather().await, types(), Outcomes::new());
    queries(&cast, &types, &mut rows).await;
    mutations(&cast, &types, &mut rows).await;
    events::ask(&cast, &types, &mut rows).await;
    activity::ask(&cast, &types, &mut rows).await;
    let missing: Vec<String> = types
        .objects
        .keys()
        .flat_map(|object| types.fields(object).map(move |field| format!("{object}.{}", field.name.node)))
        .filter(|row| rows.get(row).is_none_or(|cells| cells.len() != ROLES.len()))
        .collect();
    assert!(missing.is_empty(), "nobody asked for {missing:?}: say how to reach them in `way`");
    let mut text = format!("{:<42}", "field");
    for role in ROLES {
        write!(text, " {role:<16}").expect("writes");
    }
    for (row, cells) in &rows {
        write!(text, "\n{row:<42}").expect("writes");
        for cell in cells {
            write!(text, " {cell:<16}").expect("writes");
        }
    }
    let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
    if env::var("CONFAB_UPDATE").is_ok() {
        fs::write(FILE, &text).expect("writes");
    }
    let agreed = fs::read_to_string(FILE).unwrap_or_default();
    for (found, agreed) in text.lines().zip(agreed.lines()) {
        assert_eq!(found, agreed, "if this is meant, write the file anew with CONFAB_UPDATE=1");
    }
    assert_eq!(
        text.lines().count(),
        agreed.lines().count(),
        "the file has other rows: CONFAB_UPDATE=1 writes it anew"
    );
}
