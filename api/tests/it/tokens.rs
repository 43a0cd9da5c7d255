//! Access tokens that prove nothing, over HTTP.

use std::{sync::Arc, time::Duration};

use api::settings::Settings;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    bad_input::{ask, code},
    test_server::{MovedClock, TestServer},
};

/// Signs as the server does, with its own key from its own folder.
fn sign(server: &TestServer, token: &[u8]) -> [u8; 32] {
    let file = server.keys.folder().join(format!("{}.key", server.keys.ids()[0]));
    let text = std::fs::read_to_string(file).expect("a key");
    let digits = text.trim().as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    let secret: Vec<u8> = digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect();
    mac(&mac(&secret, b"confab access token 1"), token)
}

/// HMAC-SHA256 (RFC 2104) with a key of at most 64 bytes.
fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let padded = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_none_open_nothing() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let token = server.register("ada").await;
    let foreign = other.register("ada").await;
    let parts: Vec<&str> = token.split('.').collect();
    let header: Value = serde_json::from_slice(&BASE64.decode(parts[0]).expect("base64")).expect("JSON");
    let encode = |value: &Value| BASE64.encode(value.to_string());
    let mut none = header.clone();
    none["alg"] = json!("none");
    let mut rs = header;
    rs["alg"] = json!("RS256");
    let forged = [
        ("alg none, unsigned", format!("{}.{}.", encode(&none), parts[1])),
        ("alg none, signed", format!("{}.{}.{}", encode(&none), parts[1], parts[2])),
        ("another alg", format!("{}.{}.{}", encode(&rs), parts[1], parts[2])),
        ("another key", foreign),
        ("no signature", format!("{}.{}", parts[0], parts[1])),
        ("nothing", String::new()),
        ("nonsense", "a.b.c".to_owned()),
        ("long", "x".repeat(5000)),
    ];
    for (wrong, token) in forged {
        let refused = ask(&server, &token, "{ viewer { username } }", json!({})).await;
        assert_eq!(
            (refused.status, code(&refused)),
            (401, "UNAUTHENTICATED".to_owned()),
            "{wrong}: {}",
            refused.text
        );
    }
    let good = ask(&server, &token, "{ viewer { username } }", json!({})).await.json();
    assert_eq!(good["data"]["viewer"]["username"], "ada");

    // Signed by the server's own key, and wrong in one claim each.
    let claims: Value = serde_json::from_slice(&BASE64.decode(parts[1]).expect("base64")).expect("JSON");
    let signed = |claims: &Value| {
        let head = format!("{}.{}", parts[0], BASE64.encode(claims.to_string()));
        let signature = sign(&server, head.as_bytes());
        format!("{head}.{}", BASE64.encode(signature))
    };
    let same = ask(&server, &signed(&claims), "{ viewer { username } }", json!({})).await.json();
    assert_eq!(same["data"]["viewer"]["username"], "ada", "the test signs as the server does");
    for (claim, value) in [
        ("aud", json!("another-api")),
        ("aud", json!(["confab-api-2"])),
        ("iss", json!("another")),
        ("exp", json!(claims["iat"].as_i64().expect("a time") - 3600)),
        ("exp", Value::Null),
        ("sub", json!("usr_nonsense")),
        ("sid", Value::Null),
    ] {
        let mut wrong = claims.clone();
        wrong[claim] = value;
        let refused = ask(&server, &signed(&wrong), "{ viewer { username } }", json!({})).await;
        assert_eq!(
            (refused.status, code(&refused).as_str()),
            (401, "UNAUTHENTICATED"),
            "{wrong}: {}",
            refused.text
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_401_over_http() {
    let clock = Arc::new(MovedClock::default());
    let server = TestServer::at(clock.clone(), Settings::default()).await;
    let token = server.register("ada").await;
    let viewer = "{ viewer { username } }";
    assert_eq!(ask(&server, &token, viewer, json!({})).await.json()["data"]["viewer"]["username"], "ada");
    clock.advance(Duration::from_mins(16));
    let refused = ask(&server, &token, viewer, json!({})).await;
    assert_eq!((refused.status, code(&refused).as_str()), (401, "UNAUTHENTICATED"), "{}", refused.text);
}
