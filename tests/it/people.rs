//! People at their devices, who do through GraphQL what a test tells them.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    providers::{Kind, Providers},
    server::{ask, client},
};

const PASSWORD: &str = "correct horse";

/// Numbers the keys of messages.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A session of somebody.
#[derive(Clone, Debug)]
pub struct Device {
    pub user: String,
    pub session: String,
    pub token: String,
}

/// Where they all meet.
pub struct Site {
    pub client: reqwest::Client,
    url: Mutex<String>,
}

impl Site {
    pub fn new(url: &str) -> Self {
        Self { client: client(), url: Mutex::new(url.to_owned()) }
    }

    pub fn url(&self) -> String {
        self.url.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server has come back elsewhere.
    pub fn moved_to(&self, url: &str) {
        url.clone_into(&mut self.url.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub async fn query(&self, device: &Device, query: &str, variables: Value) -> Value {
        let data = ask(&self.client, &self.url(), Some(&device.token), query, variables).await;
        data.unwrap_or_else(|| panic!("no answer to {query}"))
    }

    /// A mutation's payload; `None` when it is not known whether it was done.
    async fn attempt(
        &self,
        token: Option<&str>,
        name: &str,
        input: &Value,
        selection: &str,
    ) -> Option<Value> {
        let kind = format!("{}{}Input", name[..1].to_uppercase(), &name[1..]);
        let query = format!(
            "mutation($input: {kind}!) {{ {name}(input: $input) {{ {selection} userErrors {{ code message field }} }} }}"
        );
        let data = ask(&self.client, &self.url(), token, &query, json!({ "input": input })).await?;
        Some(data[name].clone())
    }

    /// A mutation's payload, whatever it says.
    pub async fn call(&self, device: &Device, name: &str, input: Value, selection: &str) -> Value {
        let payload = self.attempt(Some(&device.token), name, &input, selection).await;
        payload.unwrap_or_else(|| panic!("no answer to {name} {input}"))
    }

    /// A mutation's payload, when it was done.
    pub async fn done(&self, device: &Device, name: &str, input: Value, selection: &str) -> Value {
        let payload = self.call(device, name, input, selection).await;
        assert_eq!(payload["userErrors"], json!([]), "{name}");
        payload
    }

    /// A new user at a first device.
    pub async fn join(&self, name: &str) -> Device {
        let input = json!({ "username": name, "password": PASSWORD, "displayName": name });
        self.enter("register", input).await
    }

    /// Another device of a user.
    pub async fn sign_in(&self, name: &str) -> Device {
        self.enter("signIn", json!({ "username": name, "password": PASSWORD })).await
    }

    async fn enter(&self, how: &str, input: Value) -> Device {
        let payload = self.attempt(None, how, &input, "user { id } credentials { accessToken }").await;
        let payload = payload.unwrap_or_else(|| panic!("no answer to {how} {input}"));
        let token = text(&payload["credentials"]["accessToken"]);
        let mut device = Device { user: text(&payload["user"]["id"]), session: String::new(), token };
        let data = self.query(&device, "{ sessions { id current } }", json!({})).await;
        let mut sessions = data["sessions"].as_array().expect("sessions").iter();
        let current = sessions.find(|session| session["current"] == true).expect("this one");
        device.session = text(&current["id"]);
        device
    }

    pub async fn group(&self, owner: &Device, title: &str, members: &[&Device]) -> String {
        let members: Vec<&str> = members.iter().map(|member| member.user.as_str()).collect();
        let input = json!({ "title": title, "memberIds": members });
        text(&self.done(owner, "createGroup", input, "conversation { id }").await["conversation"]["id"])
    }

    pub async fn direct(&self, one: &Device, other: &Device) -> String {
        let input = json!({ "userId": other.user });
        let payload = self.done(one, "openDirectConversation", input, "conversation { id }").await;
        text(&payload["conversation"]["id"])
    }

    /// Sends until it is known that it was sent; the message's id.
    pub async fn send(&self, sender: &Device, conversation: &str, said: &str) -> String {
        self.send_with_seq(sender, conversation, said).await.0
    }

    pub async fn send_with_seq(&self, sender: &Device, conversation: &str, said: &str) -> (String, i64) {
        let key = format!("k{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let input = json!({ "conversationId": conversation, "clientMessageId": key, "content": { "text": { "text": said } } });
        let begun = Instant::now();
        loop {
            let payload =
                self.attempt(Some(&sender.token), "sendMessage", &input, "message { id seq }").await;
            if let Some(payload) = payload {
                assert_eq!(payload["userErrors"], json!([]), "{said}");
                let message = &payload["message"];
                return (text(&message["id"]), message["seq"].as_i64().expect("a seq"));
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "nobody takes {said}");
            tokio::task::yield_now().await;
        }
    }

    pub async fn read(&self, reader: &Device, conversation: &str, seq: i64) {
        let input = json!({ "conversationId": conversation, "seq": seq });
        self.done(reader, "markRead", input, "conversation { id }").await;
    }

    /// Asks for pushes to a device of that name.
    pub async fn wants_pushes(&self, device: &Device, providers: &Providers, kind: Kind, name: &str) {
        let input = json!({ "device": providers.device(kind, name) });
        self.done(device, "registerDevice", input, "provider").await;
    }

    /// A new user who wants pushes to the one device, which has the user's name.
    pub async fn join_with(&self, providers: &Providers, kind: Kind, name: &str) -> Device {
        let device = self.join(name).await;
        self.wants_pushes(&device, providers, kind, name).await;
        device
    }

    /// Through whom the device gets pushes; null for nobody.
    pub async fn push_provider(&self, device: &Device) -> Value {
        let data = self.query(device, "{ sessions { id pushProvider } }", json!({})).await;
        let mut sessions = data["sessions"].as_array().expect("sessions").iter();
        let this = sessions.find(|session| session["id"] == device.session.as_str());
        this.expect("the session")["pushProvider"].clone()
    }

    /// Waits until the device gets no pushes any more.
    pub async fn until_forgotten(&self, device: &Device, who: &str) {
        let begun = Instant::now();
        while !self.push_provider(device).await.is_null() {
            assert!(begun.elapsed() < Duration::from_secs(10), "the device of {who} is not forgotten");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
