//! Texts to values, with a clear word on what is expected.

use std::{net::SocketAddr, path::PathBuf};

use domain::{
    adapter::redis::{RedisAddress, RedisAddressError},
    grpc::metadata::ServiceSecret,
};

/// A kind of value that a setting can have.
pub(super) trait Value: Sized {
    /// `Err` says what is expected.
    fn parse(text: &str) -> Result<Self, String>;
}

macro_rules! numbers {
    ($($number:ty),*) => {
        $(impl Value for $number {
            fn parse(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| "expected a whole number".to_owned())
            }
        })*
    };
}

numbers!(u32, u64, usize, i32);

impl Value for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "on" | "true" => Ok(true),
            "off" | "false" => Ok(false),
            _ => Err("expected on or off".to_owned()),
        }
    }
}

impl Value for SocketAddr {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected an address and port, such as 127.0.0.1:4000".to_owned())
    }
}

impl Value for Option<SocketAddr> {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(None) } else { SocketAddr::parse(text).map(Some) }
    }
}

impl Value for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("expected a folder".to_owned()) } else { Ok(Self::from(text)) }
    }
}

impl Value for Option<PathBuf> {
    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }
}

/// A text of any kind.
#[derive(Clone, Debug)]
pub struct Text(pub String);

impl Value for Text {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

/// A database URL; the text itself may hold a password and is never repeated.
impl Value for Option<String> {
    fn parse(text: &str) -> Result<Self, String> {
        let known = ["sqlite:", "mysql:", "postgres:"].iter().any(|scheme| text.starts_with(scheme));
        if text.is_empty() {
            Ok(None)
        } else if known {
            Ok(Some(text.to_owned()))
        } else {
            Err("expected sqlite://…, mysql://… or postgres://…".to_owned())
        }
    }
}

impl Value for Option<RedisAddress> {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|error: RedisAddressError| error.to_string())
    }
}

/// What a worker is called over all its lives. Kafka's tools show it.
#[derive(Clone, Debug)]
pub struct WorkerName(pub String);

impl Value for Option<WorkerName> {
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        match text {
            "" => Ok(None),
            _ if text.len() <= 100 && text.bytes().all(allowed) => Ok(Some(WorkerName(text.to_owned()))),
            _ => Err("expected up to 100 letters, digits, dots, hyphens and underscores".to_owned()),
        }
    }
}

/// A collector of traces.
#[derive(Clone, Debug)]
pub struct OtlpEndpoint(pub String);

impl Value for Option<OtlpEndpoint> {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let place = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte);
        let sound = place.and_then(|place| place.rsplit_once(':')).is_some_and(|(host, port)| {
            !host.is_empty() && host.bytes().all(allowed) && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        match place.filter(|_| sound) {
            Some(place) => Ok(Some(OtlpEndpoint(format!("http://{place}")))),
            None => Err("expected http://host:port, such as http://127.0.0.1:4317".to_owned()),
        }
    }
}

impl Value for f64 {
    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected a number".to_owned())
    }
}

/// Kafka brokers.
#[derive(Clone, Debug)]
pub struct Brokers(pub String);

impl Value for Option<Brokers> {
    fn parse(text: &str) -> Result<Self, String> {
        let items: Vec<_> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
        let sound = |item: &&str| {
            let port = item.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
            port.is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        };
        if items.iter().all(sound) && (text.trim().is_empty() || !items.is_empty()) {
            Ok((!items.is_empty()).then(|| Brokers(items.join(","))))
        } else {
            Err("expected brokers such as 10.0.0.1:9092, separated by commas".to_owned())
        }
    }
}

/// What names of topics begin with: the characters that Kafka allows, and short enough for the rest of the name.
#[derive(Clone, Debug)]
pub struct TopicPrefix(pub String);

impl Value for TopicPrefix {
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=100).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected 1 to 100 letters, digits, dots, underscores or hyphens".to_owned())
        }
    }
}

/// Addresses of the domain.
#[derive(Clone, Debug)]
pub struct DomainUrls(pub Vec<String>);

impl Value for Option<DomainUrls> {
    fn parse(text: &str) -> Result<Self, String> {
        let items: Vec<_> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
        let sound = |item: &&str| {
            let host = item.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
            host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
        };
        if items.iter().all(sound) {
            let urls =
                items.into_iter().map(|item| item.trim_end_matches('/').to_owned()).collect::<Vec<_>>();
            Ok((!urls.is_empty()).then_some(DomainUrls(urls)))
        } else {
            Err("expected addresses such as http://10.0.0.1:4100, separated by commas".to_owned())
        }
    }
}

impl Value for Option<ServiceSecret> {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let secret = ServiceSecret::new(text).map(Some);
        secret.ok_or_else(|| "expected at least 32 visible ASCII characters".to_owned())
    }
}

/// A comma-separated list of origins.
/// Names of files.
#[derive(Clone, Debug)]
pub struct Files(pub Vec<PathBuf>);

impl Value for Files {
    fn parse(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        Ok(Self(items.map(PathBuf::from).collect()))
    }
}

impl Value for Vec<String> {
    fn parse(text: &str) -> Result<Self, String> {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        items
            .map(|item| match item.split_once("://") {
                Some(("http" | "https", host)) if !host.is_empty() && !host.contains('/') => {
                    Ok(item.to_owned())
                }
                _ => Err("expected origins such as https://chat.example.org, separated by commas".to_owned()),
            })
            .collect()
    }
}

/// A TOML value as the text that the environment would have.
pub(super) fn of_toml(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(if *flag { "on" } else { "off" }.to_owned()),
        toml::Value::Array(items) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}
/// Whether a URL names a host on loopback, or a file.
pub fn is_on_loopback(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let place = rest.split(['/', '?']).next().unwrap_or_default();
    let host = place.rsplit('@').next().unwrap_or_default();
    scheme == "sqlite"
        || host == "localhost"
        || ["127.", "localhost:", "[::1]"].iter().any(|here| host.starts_with(here))
}
