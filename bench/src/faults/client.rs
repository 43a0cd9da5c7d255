//! What a client of Confab does over GraphQL, and what it makes of the answers.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// A socket that is silent for so long is asked for a sign of life, and given up after as long again.
const SILENCE: Duration = Duration::from_secs(3);

const SEND: &str = "mutation($input: SendMessageInput!) { sendMessage(input: $input) {
    message { id seq } userErrors { code message } } }";
const EVENTS: &str = "subscription($after: EventCursor) { events(after: $after) { __typename cursor
    ... on ConversationEvent { rev conversation { id } }
    ... on MessageSent { message { id seq sender { id } } }
    ... on MemberAdded { member { user { id } } }
    ... on MemberRemoved { user { id } }
    ... on ResyncRequired { reason } } }";
const PAGE: &str =
    "query($id: ID!, $before: String) { conversation(id: $id) { unreadCount viewerMember { readSeq }
    messages(last: 100, before: $before) { nodes { id seq } pageInfo { hasPreviousPage startCursor } } } }";

/// What became of a call.
pub enum Answer {
    Data(Value),
    /// Nobody knows whether it was done.
    Unknown,
    Refused(String),
}

#[derive(Clone)]
pub struct Api {
    http: Client,
    pub urls: Vec<String>,
}

#[derive(Clone)]
pub struct User {
    pub id: String,
    pub token: String,
}

impl Api {
    pub fn new(urls: Vec<String>) -> reqwest::Result<Self> {
        Ok(Self { http: Client::builder().timeout(CALL_TIMEOUT).build()?, urls })
    }

    pub async fn ask(&self, at: usize, token: Option<&str>, query: &str, variables: Value) -> Answer {
        let url = format!("{}/graphql", self.urls[at % self.urls.len()]);
        let mut request = self.http.post(url).json(&json!({ "query": query, "variables": variables }));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let Ok(response) = request.send().await else { return Answer::Unknown };
        let Ok(mut body) = response.json::<Value>().await else { return Answer::Unknown };
        match body["errors"].get(0) {
            None => Answer::Data(body["data"].take()),
            Some(error) if error["extensions"]["retryable"] == true => Answer::Unknown,
            Some(error) => Answer::Refused(error.to_string()),
        }
    }

    pub async fn register(&self, name: &str) -> Result<User, String> {
        let query = "mutation($name: String!) { register(input: { username: $name, password: \"correct horse\", displayName: $name }) {
            user { id } credentials { accessToken } userErrors { message } } }";
        match self.ask(0, None, query, json!({ "name": name })).await {
            Answer::Data(data) => {
                let made = &data["register"];
                let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| data.to_string());
                Ok(User { id: text(&made["user"]["id"])?, token: text(&made["credentials"]["accessToken"])? })
            }
            Answer::Unknown => Err("no answer".to_owned()),
            Answer::Refused(why) => Err(why),
        }
    }

    pub async fn create_group(&self, owner: &User, members: &[String]) -> Result<String, String> {
        let query = "mutation($ids: [ID!]!) { createGroup(input: { title: \"t\", memberIds: $ids }) {
            conversation { id } userErrors { message } } }";
        match self.ask(0, Some(&owner.token), query, json!({ "ids": members })).await {
            Answer::Data(data) => {
                let id = data["createGroup"]["conversation"]["id"].as_str();
                id.map(str::to_owned).ok_or_else(|| data.to_string())
            }
            Answer::Unknown => Err("no answer".to_owned()),
            Answer::Refused(why) => Err(why),
        }
    }

    /// Id and `seq` of the message.
    pub async fn send(
        &self,
        at: usize,
        token: &str,
        conversation: &str,
        key: &str,
    ) -> Result<Option<(String, i64)>, String> {
        let content = json!({ "text": { "text": key } });
        let input = json!({ "conversationId": conversation, "clientMessageId": key, "content": content });
        match self.ask(at, Some(token), SEND, json!({ "input": input })).await {
            Answer::Data(data) => {
                let sent = &data["sendMessage"];
                match (sent["message"]["id"].as_str(), sent["message"]["seq"].as_i64()) {
                    (Some(id), Some(seq)) => Ok(Some((id.to_owned(), seq))),
                    _ => Err(sent["userErrors"].to_string()),
                }
            }
            Answer::Unknown => Ok(None),
            Answer::Refused(why) => Err(why),
        }
    }

    /// Whether it is known to be done: lost marks are nobody's loss, the next one says more.
    pub async fn mark_read(&self, at: usize, token: &str, conversation: &str, seq: i64) -> bool {
        let query = "mutation($id: ID!, $seq: Int!) { markRead(input: { conversationId: $id, seq: $seq }) { userErrors { code } } }";
        let answer = self.ask(at, Some(token), query, json!({ "id": conversation, "seq": seq })).await;
        matches!(answer, Answer::Data(data) if data["markRead"]["userErrors"] == json!([]))
    }

    /// Takes a member out of a group, or brings them back. Both may be asked again; `Ok(false)` when nobody knows.
    pub async fn set_member(
        &self,
        at: usize,
        token: &str,
        conversation: &str,
        user: &str,
        is_in: bool,
    ) -> Result<bool, String> {
        let query = if is_in {
            "mutation($id: ID!, $user: ID!) { done: addMembers(input: { conversationId: $id, userIds: [$user] }) { userErrors { message } } }"
        } else {
            "mutation($id: ID!, $user: ID!) { done: removeMember(input: { conversationId: $id, userId: $user }) { userErrors { message } } }"
        };
        match self.ask(at, Some(token), query, json!({ "id": conversation, "user": user })).await {
            Answer::Data(data) if data["done"]["userErrors"] == json!([]) => Ok(true),
            Answer::Data(data) => Err(data.to_string()),
            Answer::Unknown => Ok(false),
            Answer::Refused(why) => Err(why),
        }
    }

    /// A page of a conversation: `unreadCount`, the viewer's `readSeq`, messages as `(seq, id)`, the next page's cursor.
    pub async fn page(
        &self,
        at: usize,
        token: &str,
        conversation: &str,
        before: Option<&str>,
    ) -> Option<Page> {
        let variables = json!({ "id": conversation, "before": before });
        let Answer::Data(data) = self.ask(at, Some(token), PAGE, variables).await else { return None };
        let found = &data["conversation"];
        let nodes = found["messages"]["nodes"].as_array()?;
        let messages =
            nodes.iter().map(|node| Some((node["seq"].as_i64()?, node["id"].as_str()?.to_owned())));
        let info = &found["messages"]["pageInfo"];
        Some(Page {
            unread: found["unreadCount"].as_i64()?,
            read_seq: found["viewerMember"]["readSeq"].as_i64()?,
            messages: messages.collect::<Option<_>>()?,
            next: info["startCursor"].as_str().filter(|_| info["hasPreviousPage"] == true).map(str::to_owned),
        })
    }
}

pub struct Page {
    pub unread: i64,
    pub read_seq: i64,
    pub messages: Vec<(i64, String)>,
    pub next: Option<String>,
}

/// A subscription to everything that concerns a user; `None` from its methods when the connection is gone.
pub struct Listener(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Listener {
    pub async fn open(url: &str, token: &str, after: Option<&str>) -> Option<Self> {
        timeout(CALL_TIMEOUT, Self::connect(url, token, after)).await.ok()?
    }

    async fn connect(url: &str, token: &str, after: Option<&str>) -> Option<Self> {
        let url = format!("{}/graphql", url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().ok()?;
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().ok()?);
        let mut listener = Self(connect_async(request).await.ok()?.0);
        let authorization = format!("Bearer {token}");
        listener
            .say(json!({ "type": "connection_init", "payload": { "authorization": authorization } }))
            .await?;
        if listener.hear().await?["type"] != "connection_ack" {
            return None;
        }
        let payload = json!({ "query": EVENTS, "variables": { "after": after } });
        listener.say(json!({ "id": "1", "type": "subscribe", "payload": payload })).await?;
        Some(listener)
    }

    async fn say(&mut self, message: Value) -> Option<()> {
        self.0.send(Message::text(message.to_string())).await.ok()
    }

    async fn hear(&mut self) -> Option<Value> {
        let mut asked = false;
        loop {
            let frame = match timeout(SILENCE, self.0.next()).await {
                Ok(frame) => frame?.ok()?,
                Err(_) if asked => return None,
                Err(_) => {
                    asked = true;
                    self.say(json!({ "type": "ping" })).await?;
                    continue;
                }
            };
            asked = false;
            match frame {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).ok()?;
                    if message["type"] != "pong" {
                        return Some(message);
                    }
                }
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// The next event; `Err` is what no fault explains.
    pub async fn event(&mut self) -> Option<Result<Value, String>> {
        let mut message = self.hear().await?;
        let errors = message["payload"].get("errors").is_some();
        if message["type"] == "next" && !errors {
            return Some(Ok(message["payload"]["data"]["events"].take()));
        }
        // An operation may be refused while a back end is away; the client comes again.
        let retryable = message["payload"][0]["extensions"]["retryable"] == true;
        if retryable || message["type"] == "complete" { None } else { Some(Err(message.to_string())) }
    }
}
