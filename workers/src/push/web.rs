//! Web Push: RFC 8030 with payloads encrypted by RFC 8291 and 8188, and senders identified by RFC 8292 (VAPID).

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use aes_gcm::{Aes128Gcm, KeyInit as _, aead::Aead as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::{
    Subscription, Timestamp,
    port::{Clock, Random},
    push::is_endpoint,
};
use hkdf::Hkdf;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::{
    PublicKey, SecretKey, ecdh::diffie_hellman, elliptic_curve::sec1::ToEncodedPoint as _,
    pkcs8::DecodePrivateKey as _,
};
use reqwest::{Client, StatusCode, Url};
use serde_json::json;
use sha2::Sha256;

use super::{Failure, Note, Outcome, WebPushSettings, http};

/// At most 24 hours by RFC 8292.
const TOKEN_SECONDS: i64 = 12 * 60 * 60;
/// How long a push service keeps a push for a browser that is away.
const KEPT_SECONDS: &str = "86400";
/// Push services whose tokens are kept.
const TOKENS_MAX: usize = 64;
/// RFC 8188: one record holds all.
const RECORD_SIZE: u32 = 4096;

pub struct WebPush {
    client: Client,
    private: bool,
    signing: EncodingKey,
    public: String,
    subject: String,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// By origin, with when they were made.
    tokens: Mutex<HashMap<String, (Timestamp, String)>>,
}

fn read(path: &Path) -> Result<(String, SecretKey), Failure> {
    let named = |error: String| format!("{}: {error}", path.display());
    let pem = std::fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    let key = SecretKey::from_pkcs8_pem(&pem).map_err(|error| named(error.to_string()))?;
    Ok((pem, key))
}

fn point(key: &PublicKey) -> Vec<u8> {
    key.to_encoded_point(false).as_bytes().to_vec()
}

/// The public half of a key file, as browsers take it.
pub fn public_key(path: &Path) -> Result<String, Failure> {
    Ok(URL_SAFE_NO_PAD.encode(point(&read(path)?.1.public_key())))
}

impl WebPush {
    pub fn new(
        settings: &WebPushSettings,
        private: bool,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, Failure> {
        let (pem, key) = read(&settings.key)?;
        Ok(Self {
            client: http::to_strangers(private)?,
            private,
            signing: EncodingKey::from_ec_pem(pem.as_bytes())?,
            public: URL_SAFE_NO_PAD.encode(point(&key.public_key())),
            subject: settings.subject.clone(),
            clock,
            random,
            tokens: Mutex::default(),
        })
    }

    fn token(&self, origin: &str) -> Result<String, Failure> {
        let now = self.clock.now();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, token)) = tokens.get(origin)
            && now.seconds() - made.seconds() < TOKEN_SECONDS / 2
        {
            return Ok(token.clone());
        }
        let claims = json!({ "aud": origin, "exp": now.seconds() + TOKEN_SECONDS, "sub": self.subject });
        let made = jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.signing)?;
        if tokens.len() >= TOKENS_MAX {
            tokens.clear();
        }
        tokens.insert(origin.to_owned(), (now, made.clone()));
        Ok(made)
    }

    pub async fn send(&self, subscription: &Subscription, note: &Note) -> Outcome {
        // Registered under another setting, or before this was checked.
        let Some(url) =
            subscription.endpoint.parse::<Url>().ok().filter(|url| is_endpoint(url.as_str(), self.private))
        else {
            return Outcome::Gone;
        };
        let conversation = note.conversation.to_string();
        let payload = json!({
            "title": note.title,
            "body": note.body,
            // A service worker passes it to `showNotification`: the newer takes the older's place.
            "tag": conversation,
            "badge": note.badge,
            "conversationId": conversation,
            "messageId": note.message.to_string(),
            "pushId": note.uuid(),
        });
        let mut salt = [0; 16];
        self.random.fill(&mut salt);
        let sealed = encrypt(subscription, &self.new_key(), salt, payload.to_string().as_bytes());
        // Its key is none.
        let Ok(body) = sealed else { return Outcome::Gone };
        let token = match self.token(&url.origin().ascii_serialization()) {
            Ok(token) => token,
            Err(error) => return Outcome::Closed(error.to_string(), None),
        };
        // At most 32 characters of base64url.
        let topic = URL_SAFE_NO_PAD.encode(&note.conversation.as_bytes()[..]);
        let request = self
            .client
            .post(url)
            .header("authorization", format!("vapid t={token}, k={}", self.public))
            .header("content-encoding", "aes128gcm")
            .header("content-type", "application/octet-stream")
            .header("ttl", KEPT_SECONDS)
            .header("urgency", "high")
            .header("topic", topic)
            .body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Outcome::Closed(error.to_string(), None),
        };
        let (status, wait) = (response.status(), http::retry_after(&response));
        match status {
            status if status.is_success() => Outcome::Sent,
            StatusCode::NOT_FOUND | StatusCode::GONE => Outcome::Gone,
            _ => http::otherwise(status, format!("{status} {}", http::beginning(response).await), wait),
        }
    }

    /// Of this one message.
    fn new_key(&self) -> SecretKey {
        loop {
            let mut bytes = [0; 32];
            self.random.fill(&mut bytes);
            if let Ok(key) = SecretKey::from_slice(&bytes) {
                return key;
            }
        }
    }
}

/// RFC 8291, section 3.4, and RFC 8188, section 2, with one record.
fn encrypt(to: &Subscription, key: &SecretKey, salt: [u8; 16], text: &[u8]) -> Result<Vec<u8>, Failure> {
    let theirs = PublicKey::from_sec1_bytes(&to.p256dh)?;
    let ours = point(&key.public_key());
    let shared = diffie_hellman(key.to_nonzero_scalar(), theirs.as_affine());
    let derive = |salt: &[u8], secret: &[u8], info: &[&[u8]], into: &mut [u8]| {
        Hkdf::<Sha256>::new(Some(salt), secret)
            .expand_multi_info(info, into)
            .map_err(|error| error.to_string())
    };
    let (mut secret, mut content_key, mut nonce) = ([0; 32], [0; 16], [0; 12]);
    derive(&to.auth, shared.raw_secret_bytes(), &[b"WebPush: info\0", &to.p256dh, &ours], &mut secret)?;
    derive(&salt, &secret, &[b"Content-Encoding: aes128gcm\0"], &mut content_key)?;
    derive(&salt, &secret, &[b"Content-Encoding: nonce\0"], &mut nonce)?;
    // The delimiter of the last record.
    let padded = [text, &[2]].concat();
    let sealed = Aes128Gcm::new(&content_key.into()).encrypt(&nonce.into(), padded.as_slice());
    let sealed = sealed.map_err(|error| error.to_string())?;
    let length = u8::try_from(ours.len())?;
    Ok([&salt[..], &RECORD_SIZE.to_be_bytes(), &[length], &ours, &sealed].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        URL_SAFE_NO_PAD.decode(text).expect("base64url").try_into().expect("the length")
    }

    /// RFC 8291, section 5.
    #[test]
    fn the_example_of_the_standard_comes_out() {
        let to = Subscription {
            endpoint: String::new(),
            p256dh: bytes(
                "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            ),
            auth: bytes("BTBZMqHH6r4Tts7J_aSIgg"),
        };
        let key = SecretKey::from_slice(&bytes::<32>("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"))
            .expect("a key");
        let salt = bytes("DGv6ra1nlYgDCS1FRnbzlw");
        let sealed =
            encrypt(&to, &key, salt, b"When I grow up, I want to be a watermelon").expect("encrypts");
        let expected = "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN";
        assert_eq!(URL_SAFE_NO_PAD.encode(sealed), expected);
    }
}
