//! What a client of Confab does over GraphQL, and what it makes of the answers.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::actors::RETRY_PAUSE;

pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Of everybody.
pub const PASSWORD: &str = "correct horse";

const SEND: &str = "mutation($input: SendMessageInput!) { sendMessage(input: $input) {
    message { id seq } userErrors { code message } } }";
const PAGE: &str =
    "query($id: ID!, $before: String) { conversation(id: $id) { title unreadCount viewerMember { readSeq }
    members(first: 100) { nodes { user { id } } }
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
    pub name: String,
    pub id: String,
    pub token: Token,
}

/// Access and refresh token of a session, always the newest.
#[derive(Clone)]
pub struct Token(Arc<Mutex<(String, String)>>);

impl Token {
    /// Of an answer's `credentials`.
    pub fn of(credentials: &Value) -> Option<Self> {
        let text = |name: &str| credentials[name].as_str().map(str::to_owned);
        Some(Self(Arc::new(Mutex::new((text("accessToken")?, text("refreshToken")?)))))
    }

    pub fn access(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn refresh(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    fn renew(&self, newer: &Self) {
        let newer = (newer.access(), newer.refresh());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = newer;
    }
}

impl Api {
    pub fn new(urls: Vec<String>) -> reqwest::Result<Self> {
        Ok(Self { http: Client::builder().timeout(CALL_TIMEOUT).build()?, urls })
    }

    pub async fn ask(&self, at: usize, token: Option<&Token>, query: &str, variables: Value) -> Answer {
        let url = format!("{}/graphql", self.urls[at % self.urls.len()]);
        let mut request = self.http.post(url).json(&json!({ "query": query, "variables": variables }));
        if let Some(token) = token {
            request = request.bearer_auth(token.access());
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
        let query = "mutation($name: String!, $password: String!) { register(input: { username: $name, password: $password, displayName: $name }) {
            user { id } credentials { accessToken refreshToken } userErrors { message } } }";
        match self.ask(0, None, query, json!({ "name": name, "password": PASSWORD })).await {
            Answer::Data(data) => {
                let made = &data["register"];
                let id = made["user"]["id"].as_str().map(str::to_owned);
                let (id, token) = id.zip(Token::of(&made["credentials"])).ok_or_else(|| data.to_string())?;
                Ok(User { name: name.to_owned(), id, token })
            }
            Answer::Unknown => Err("no answer".to_owned()),
            Answer::Refused(why) => Err(why),
        }
    }

    /// Tries until there is a new access token; the refresh token may be sent again meanwhile.
    pub async fn renew(&self, at: usize, token: &Token) -> Result<(), String> {
        let query = "mutation($token: String!) { refreshSession(input: { refreshToken: $token }) {
            credentials { accessToken refreshToken } userErrors { message } } }";
        for attempt in at.. {
            match self.ask(attempt, None, query, json!({ "token": token.refresh() })).await {
                Answer::Data(data) => {
                    let newer = Token::of(&data["refreshSession"]["credentials"]);
                    token.renew(&newer.ok_or_else(|| data.to_string())?);
                    return Ok(());
                }
                Answer::Unknown => sleep(RETRY_PAUSE).await,
                Answer::Refused(why) => return Err(why),
            }
        }
        Ok(())
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
        token: &Token,
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
    pub async fn mark_read(&self, at: usize, token: &Token, conversation: &str, seq: i64) -> bool {
        let query = "mutation($id: ID!, $seq: Int!) { markRead(input: { conversationId: $id, seq: $seq }) { userErrors { code } } }";
        let answer = self.ask(at, Some(token), query, json!({ "id": conversation, "seq": seq })).await;
        matches!(answer, Answer::Data(data) if data["markRead"]["userErrors"] == json!([]))
    }

    /// Takes a member out of a group, or brings them back. Both may be asked again; `Ok(false)` when nobody knows.
    pub async fn set_member(
        &self,
        at: usize,
        token: &Token,
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

    /// Another title; whether it is known to be done.
    pub async fn rename(&self, at: usize, token: &Token, conversation: &str, title: &str) -> bool {
        let query = "mutation($id: ID!, $title: String!) {
            done: updateGroup(input: { conversationId: $id, title: $title }) { userErrors { message } } }";
        let answer = self.ask(at, Some(token), query, json!({ "id": conversation, "title": title })).await;
        matches!(answer, Answer::Data(data) if data["done"]["userErrors"] == json!([]))
    }

    /// What an app asks for when it is opened: the newest conversations; whether it was answered.
    pub async fn overview(&self, at: usize, token: &Token) -> bool {
        let query = "{ viewer { totalUnreadCount } conversations(first: 20) { nodes { id title unreadCount
            lastMessage { seq sender { displayName } } members(first: 5) { nodes { user { displayName } } } } } }";
        matches!(self.ask(at, Some(token), query, json!({})).await, Answer::Data(_))
    }

    /// What is unread in all conversations together.
    pub async fn total_unread(&self, at: usize, token: &Token) -> Option<i64> {
        match self.ask(at, Some(token), "{ viewer { totalUnreadCount } }", json!({})).await {
            Answer::Data(data) => data["viewer"]["totalUnreadCount"].as_i64(),
            _ => None,
        }
    }

    /// A page of a conversation: `unreadCount`, the viewer's `readSeq`, messages as `(seq, id)`, the next page's cursor.
    pub async fn page(
        &self,
        at: usize,
        token: &Token,
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
            title: found["title"].as_str().unwrap_or_default().to_owned(),
            members: found["members"]["nodes"]
                .as_array()?
                .iter()
                .filter_map(|node| node["user"]["id"].as_str())
                .map(str::to_owned)
                .collect(),
            messages: messages.collect::<Option<_>>()?,
            next: info["startCursor"].as_str().filter(|_| info["hasPreviousPage"] == true).map(str::to_owned),
        })
    }
}

pub struct Page {
    pub title: String,
    pub members: BTreeSet<String>,
    pub unread: i64,
    pub read_seq: i64,
    pub messages: Vec<(i64, String)>,
    pub next: Option<String>,
}
