//! The messages of `graphql-transport-ws`, as text.

use std::collections::BTreeMap;

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::close::{Close, TOO_LARGE};
use crate::{
    guard::{Limits, scan_json},
    parameters::{Malformed, Parameters},
};

/// What a client says.
#[derive(Debug, PartialEq)]
pub(super) enum ClientMessage {
    ConnectionInit {
        authorization: Authorization,
    },
    Ping {
        /// JSON, to be sent back.
        payload: Option<Box<str>>,
    },
    Pong,
    Subscribe {
        id: Box<str>,
        parameters: Parameters,
    },
    Complete {
        id: Box<str>,
    },
}

/// What `connection_init` says about who connects.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Authorization {
    None,
    Text(Box<str>),
    /// Something that is not text.
    Invalid,
}

/// Bytes of an operation id.
const ID_BYTES_MAX: usize = 256;

impl ClientMessage {
    /// What is wrong with the message closes the socket.
    pub(super) fn read(text: &str, limits: &Limits) -> Result<Self, Close> {
        // One level more than a request over HTTP: the message around it.
        let limits = Limits { json_nesting_max: limits.json_nesting_max + 1, ..limits.clone() };
        scan_json(text.as_bytes(), &limits)
            .map_err(|_| Close::bad_message("the message nests too deep or holds too many values"))?;
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_str(text).map_err(|_| Close::bad_message("the message is not a JSON object"))?;
        let member = |name: &str| members.get(name).map(|value| value.get()).filter(|text| *text != "null");
        let kind: String = member("type")
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or(Close::bad_message("\"type\" must be a string"))?;
        let payload = member("payload");
        match kind.as_str() {
            "connection_init" => Ok(Self::ConnectionInit { authorization: authorization(payload)? }),
            "ping" => {
                object(payload)?;
                Ok(Self::Ping { payload: payload.map(Into::into) })
            }
            "pong" => object(payload).map(|_| Self::Pong),
            "subscribe" => {
                let id = id(member("id"))?;
                let payload = payload.ok_or(Close::bad_message("\"payload\" must be an object"))?;
                let parameters = Parameters::from_json(payload).map_err(malformed)?;
                Ok(Self::Subscribe { id, parameters })
            }
            "complete" => Ok(Self::Complete { id: id(member("id"))? }),
            _ => Err(Close::bad_message("unknown message type")),
        }
    }
}

fn malformed(malformed: Malformed) -> Close {
    Close::bad_message(match malformed {
        Malformed::Json => "the payload is not JSON",
        Malformed::Envelope => "\"payload\" must be an object",
        Malformed::Query => "\"payload.query\" must be a string",
        Malformed::DocumentId => "\"payload.documentId\" must be a string that is not empty",
        Malformed::PersistedQuery => "\"payload.extensions.persistedQuery\" is malformed",
        Malformed::OperationName => "\"payload.operationName\" must be a string",
        Malformed::Variables => "\"payload.variables\" must be an object",
        Malformed::Extensions => "\"payload.extensions\" must be an object",
        Malformed::TwoDocuments => "\"documentId\" and \"persistedQuery\" name two documents",
    })
}

fn id(text: Option<&str>) -> Result<Box<str>, Close> {
    let id: String = text
        .and_then(|text| serde_json::from_str(text).ok())
        .filter(|id: &String| !id.is_empty())
        .ok_or(Close::bad_message("\"id\" must be a string that is not empty"))?;
    if id.len() > ID_BYTES_MAX { Err(Close::bad_message("\"id\" is too long")) } else { Ok(id.into()) }
}

fn object(payload: Option<&str>) -> Result<BTreeMap<String, &RawValue>, Close> {
    let Some(text) = payload else { return Ok(BTreeMap::new()) };
    serde_json::from_str(text).map_err(|_| Close::bad_message("\"payload\" must be an object"))
}

fn authorization(payload: Option<&str>) -> Result<Authorization, Close> {
    let payload = object(payload)?;
    // As a header it has no case, and many clients write it as one.
    let given = payload.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    let mut values: Vec<_> = given.map(|(_, value)| value.get()).filter(|text| *text != "null").collect();
    values.dedup();
    if values.len() > 1 {
        return Ok(Authorization::Invalid);
    }
    let Some(value) = values.first() else {
        return Ok(Authorization::None);
    };
    Ok(match serde_json::from_str::<String>(value) {
        Ok(text) => Authorization::Text(text.into()),
        Err(_) => Authorization::Invalid,
    })
}

pub(super) const ACK: Utf8Bytes = Utf8Bytes::from_static(r#"{"type":"connection_ack"}"#);

pub(super) fn pong(payload: Option<&str>) -> Utf8Bytes {
    match payload {
        None => Utf8Bytes::from_static(r#"{"type":"pong"}"#),
        Some(payload) => format!(r#"{{"type":"pong","payload":{payload}}}"#).into(),
    }
}

/// Text as JSON.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value of ours as JSON.
pub(super) fn serialise(value: &impl Serialize) -> Utf8Bytes {
    match serde_json::to_string(value) {
        Ok(text) => text.into(),
        Err(error) => {
            // Answers are trees of plain values; only a broken `Serialize` gets here.
            tracing::error!(error.chain = %error, "an answer cannot be serialised");
            Utf8Bytes::from_static(
                r#"{"errors":[{"message":"internal error","extensions":{"code":"INTERNAL","retryable":false}}]}"#,
            )
        }
    }
}

pub(super) fn next(quoted_id: &str, payload: &str) -> Utf8Bytes {
    splice([r#"{"id":"#, quoted_id, r#","type":"next","payload":"#, payload, "}"])
}

pub(super) fn error(quoted_id: &str, errors: &str) -> Utf8Bytes {
    splice([r#"{"id":"#, quoted_id, r#","type":"error","payload":"#, errors, "}"])
}

pub(super) fn complete(quoted_id: &str) -> Utf8Bytes {
    format!(r#"{{"id":{quoted_id},"type":"complete"}}"#).into()
}

/// Text of text: once for each socket, and so without a look at whether it is any.
fn splice(parts: [&str; 5]) -> Utf8Bytes {
    let mut whole = String::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        whole.push_str(part);
    }
    whole.into()
}

/// What an error of the socket's own protocol closes it with; `None` when the peer is simply gone.
pub(super) fn close_for(error: &axum::Error) -> Option<Close> {
    // axum hides the type; these are the texts of its WebSocket implementation.
    let text = error.to_string();
    if text.contains("Message too long") || text.contains("Space limit exceeded") {
        Some(TOO_LARGE)
    } else if text.contains("UTF-8") {
        Some(Close { code: 1007, reason: "text must be UTF-8" })
    } else if text.contains("protocol error") && !text.contains("without closing handshake") {
        Some(Close { code: 1002, reason: "protocol error" })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<ClientMessage, u16> {
        ClientMessage::read(text, &Limits::default()).map_err(|close| {
            assert!(close.reason.len() <= 123, "{close:?}");
            close.code
        })
    }

    #[test]
    fn malformed_messages_close_with_4400() {
        for text in [
            "",
            "{",
            "[]",
            "7",
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"start"}"#,
            r#"{"type":"connection_init","payload":[]}"#,
            r#"{"type":"connection_init","payload":"x"}"#,
            r#"{"type":"ping","payload":7}"#,
            r#"{"type":"subscribe"}"#,
            r#"{"type":"subscribe","id":"","payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":7,"payload":{"query":"{a}"}}"#,
            r#"{"type":"subscribe","id":"1"}"#,
            r#"{"type":"subscribe","id":"1","payload":{}}"#,
            r#"{"type":"subscribe","id":"1","payload":{"query":"{a}","variables":[]}}"#,
            r#"{"type":"complete"}"#,
        ] {
            assert_eq!(read(text), Err(4400), "{text}");
        }
        assert_eq!(read(&format!("{}{}", "[".repeat(9000), "]".repeat(9000))), Err(4400));
    }

    #[test]
    fn null_payloads_are_as_if_they_were_absent() {
        let none = Authorization::None;
        assert_eq!(
            read(r#"{"type":"connection_init","payload":null}"#),
            Ok(ClientMessage::ConnectionInit { authorization: none })
        );
        assert_eq!(read(r#"{"type":"ping","payload":null}"#), Ok(ClientMessage::Ping { payload: None }));
    }

    #[test]
    fn the_authorization_has_no_case_and_one_value() {
        let read = |payload: &str| match read(&format!(r#"{{"type":"connection_init","payload":{payload}}}"#))
        {
            Ok(ClientMessage::ConnectionInit { authorization }) => authorization,
            other => panic!("{payload}: {other:?}"),
        };
        let token = || Authorization::Text("Bearer x".into());
        for name in ["authorization", "Authorization", "AUTHORIZATION"] {
            assert_eq!(read(&format!(r#"{{"{name}":"Bearer x"}}"#)), token(), "{name}");
        }
        assert_eq!(read(r#"{"authorization":null,"Authorization":"Bearer x"}"#), token());
        assert_eq!(read(r#"{"authorization":"Bearer x","Authorization":"Bearer x"}"#), token());
        assert_eq!(
            read(r#"{"authorization":"Bearer x","Authorization":"Bearer y"}"#),
            Authorization::Invalid
        );
        assert_eq!(read(r#"{"Authorization":7}"#), Authorization::Invalid);
    }

    #[test]
    fn ids_are_quoted() {
        let message = next(&quote("a\"\n\u{1}"), "{}");
        assert_eq!(message.as_str(), "{\"id\":\"a\\\"\\n\\u0001\",\"type\":\"next\",\"payload\":{}}");
    }

    /// A byte replaced, left out or put in; a hundred thousand times, or as the environment says (see `tests/it/fuzz.rs`).
    #[test]
    #[expect(clippy::disallowed_methods, reason = "tests read the environment")]
    fn damaged_messages_are_read_or_close_with_4400() {
        const SEEDS: [&str; 4] = [
            r#"{"type":"connection_init","payload":{"authorization":"Bearer x"}}"#,
            r#"{"type":"ping","payload":{"a":[1,"\u00e9"]}}"#,
            r#"{"id":"1","type":"subscribe","payload":{"query":"{ a }","variables":{"a":{"b":[1.5e3]}},"operationName":"A"}}"#,
            r#"{"id":"1","type":"complete"}"#,
        ];
        const BYTES: &[u8] = b"{}[]:,\"\\ 0-enulltrue\x00\n";
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut below = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).expect("31 bits") % bound
        };
        let cases = std::env::var("CONFAB_TEST_FUZZ_CASES").ok();
        let cases = cases.map_or(100_000, |count| count.parse().expect("a number"));
        let mut read_well = 0;
        for _ in 0..cases {
            let mut text = SEEDS[below(SEEDS.len())].as_bytes().to_vec();
            for _ in 0..=below(3) {
                let (place, byte) = (below(text.len()), BYTES[below(BYTES.len())]);
                match below(3) {
                    0 => text[place] = byte,
                    1 => drop(text.remove(place)),
                    _ => text.insert(place, byte),
                }
            }
            match read(std::str::from_utf8(&text).expect("ASCII alone")) {
                Ok(_) => read_well += 1,
                Err(code) => assert_eq!(code, 4400),
            }
        }
        println!("{cases} messages, {read_well} of them read");
        assert!(read_well > cases / 100, "damage that leaves nothing to read finds nothing: {read_well}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_closes_with_4400(text in "\\PC{0,80}") {
            if let Err(code) = read(&text) {
                prop_assert_eq!(code, 4400);
            }
        }
    }
}
