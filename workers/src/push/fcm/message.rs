//! The body of `messages:send`, as types: a tree of JSON values for each push took some 4 µs to make.
//!
//! Source: Google's reference of FCM, "REST Resource: projects.messages".

use serde::Serialize;

use super::super::Note;

/// How long Google keeps a push for a device that is away.
const KEPT: &str = "86400s";
const KEPT_SECONDS: &str = "86400";

#[derive(Serialize)]
pub(super) struct Body<'a> {
    message: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    token: &'a str,
    notification: Notification<'a>,
    data: Data<'a>,
    android: Android<'a>,
    apns: Apns<'a>,
    webpush: WebPush<'a>,
}

#[derive(Serialize)]
struct Notification<'a> {
    title: &'a str,
    body: &'a str,
}

/// What the app gets.
#[derive(Serialize)]
struct Data<'a> {
    #[serde(rename = "conversationId")]
    conversation: &'a str,
    #[serde(rename = "messageId")]
    message: String,
    #[serde(rename = "pushId")]
    push: String,
}

#[derive(Serialize)]
struct Android<'a> {
    collapse_key: &'a str,
    priority: &'static str,
    ttl: &'static str,
    notification: AndroidNotification<'a>,
}

#[derive(Serialize)]
struct AndroidNotification<'a> {
    tag: &'a str,
    notification_count: i32,
}

#[derive(Serialize)]
struct Apns<'a> {
    headers: ApnsHeaders<'a>,
    payload: ApnsPayload<'a>,
}

#[derive(Serialize)]
struct ApnsHeaders<'a> {
    #[serde(rename = "apns-collapse-id")]
    collapse_id: &'a str,
}

#[derive(Serialize)]
struct ApnsPayload<'a> {
    aps: Aps<'a>,
}

#[derive(Serialize)]
struct Aps<'a> {
    badge: i32,
    sound: &'static str,
    #[serde(rename = "thread-id")]
    thread_id: &'a str,
}

#[derive(Serialize)]
struct WebPush<'a> {
    headers: WebPushHeaders,
    notification: WebPushNotification<'a>,
}

#[derive(Serialize)]
struct WebPushHeaders {
    #[serde(rename = "TTL")]
    ttl: &'static str,
}

#[derive(Serialize)]
struct WebPushNotification<'a> {
    tag: &'a str,
}

impl<'a> Body<'a> {
    /// Devices replace what they show of the same conversation.
    pub fn new(device: &'a str, conversation: &'a str, note: &'a Note) -> Self {
        let message = Message {
            token: device,
            notification: Notification { title: &note.title, body: &note.body },
            data: Data { conversation, message: note.message.to_string(), push: note.uuid() },
            android: Android {
                collapse_key: conversation,
                priority: "HIGH",
                ttl: KEPT,
                notification: AndroidNotification { tag: conversation, notification_count: note.badge },
            },
            apns: Apns {
                headers: ApnsHeaders { collapse_id: conversation },
                payload: ApnsPayload {
                    aps: Aps { badge: note.badge, sound: "default", thread_id: conversation },
                },
            },
            webpush: WebPush {
                headers: WebPushHeaders { ttl: KEPT_SECONDS },
                notification: WebPushNotification { tag: conversation },
            },
        };
        Self { message }
    }
}
