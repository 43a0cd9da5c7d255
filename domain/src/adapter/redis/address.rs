//! Where Redis is: one server, a server that Sentinels appoint, or a cluster; with or without TLS, a user and a password.
//!
//! ```text
//! redis://[user:password@]host[:6379][/database]
//! redis+sentinel://[user:password@]host[:26379],…/name-of-the-master[?db=0&sentinel_user=…&sentinel_password=…]
//! redis+cluster://[user:password@]host[:6379],…
//! ```
//! `rediss` in place of `redis` is TLS. What is not a letter or a digit in a user or password is percent-encoded.

use std::{fmt, str::FromStr};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Why a text is no address. It never repeats the text, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedisAddressError {
    #[error(
        "expected redis://…, rediss://…, redis+sentinel://…, rediss+sentinel://…, redis+cluster://… or rediss+cluster://…"
    )]
    Scheme,
    #[error("expected a host, or several of Sentinels or a cluster separated by commas")]
    Host,
    #[error("expected a port from 1 to 65535 behind the colon of a host")]
    Port,
    #[error("expected one host; several are for redis+sentinel:// and redis+cluster://")]
    OneHost,
    #[error("expected the number of a database")]
    Database,
    #[error("a cluster has no databases; expected nothing behind its hosts")]
    ClusterDatabase,
    #[error("expected the name of the master behind the Sentinels, as in redis+sentinel://host:26379/name")]
    Master,
    #[error("unknown option; Sentinels have db, sentinel_user and sentinel_password, the others none")]
    Option,
    #[error("expected two hexadecimal digits behind each % of user, password and names")]
    Encoding,
}

#[derive(Clone, PartialEq, Eq)]
pub struct RedisAddress {
    pub(super) topology: Topology,
    pub(super) tls: bool,
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) login: Login,
    pub(super) database: i64,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Topology {
    Single,
    Sentinel {
        master: String,
        /// For the Sentinels themselves.
        login: Login,
    },
    Cluster,
}

/// An ACL user and password; a password alone is the default user's.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub user: Option<String>,
    pub password: Option<String>,
}

/// Without the login.
impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topology = match self.topology {
            Topology::Single => "single",
            Topology::Sentinel { .. } => "sentinel",
            Topology::Cluster => "cluster",
        };
        f.debug_struct("RedisAddress")
            .field("topology", &topology)
            .field("tls", &self.tls)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl RedisAddress {
    pub const fn has_tls(&self) -> bool {
        self.tls
    }
}

impl FromStr for RedisAddress {
    type Err = RedisAddressError;

    fn from_str(text: &str) -> Result<Self, RedisAddressError> {
        let (scheme, rest) = text.split_once("://").ok_or(RedisAddressError::Scheme)?;
        let (security, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match security {
            "redis" => false,
            "rediss" => true,
            _ => return Err(RedisAddressError::Scheme),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Login::parse(login)?, hosts),
            None => (Login::default(), authority),
        };
        let port = if kind == "sentinel" { SENTINEL_PORT } else { PORT };
        let hosts = hosts.split(',').map(|host| parse_host(host, port)).collect::<Result<Vec<_>, _>>()?;
        let options = parse_options(query)?;
        let (topology, database) = match kind {
            "" if hosts.len() > 1 => return Err(RedisAddressError::OneHost),
            "" if options.is_empty() => (Topology::Single, parse_database(path)?),
            "cluster" if !path.is_empty() => return Err(RedisAddressError::ClusterDatabase),
            "cluster" if options.is_empty() => (Topology::Cluster, 0),
            "sentinel" => sentinel(path, options)?,
            "" | "cluster" => return Err(RedisAddressError::Option),
            _ => return Err(RedisAddressError::Scheme),
        };
        Ok(Self { topology, tls, hosts, login, database })
    }
}

impl Login {
    fn parse(text: &str) -> Result<Self, RedisAddressError> {
        let some = |text: String| (!text.is_empty()).then_some(text);
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self { user: some(decode(user)?), password: some(decode(password)?) })
    }
}

fn sentinel(path: &str, options: Vec<(String, String)>) -> Result<(Topology, i64), RedisAddressError> {
    let master = decode(path)?;
    if master.is_empty() || master.contains('/') {
        return Err(RedisAddressError::Master);
    }
    let (mut login, mut database) = (Login::default(), 0);
    for (name, value) in options {
        match name.as_str() {
            "db" => database = parse_database(&value)?,
            "sentinel_user" => login.user = Some(value),
            "sentinel_password" => login.password = Some(value),
            _ => return Err(RedisAddressError::Option),
        }
    }
    Ok((Topology::Sentinel { master, login }, database))
}

fn parse_host(text: &str, port: u16) -> Result<(String, u16), RedisAddressError> {
    let (host, port) = match text.strip_prefix('[').map(|text| text.split_once(']')) {
        // An IPv6 address.
        Some(Some((host, ""))) => (host, port),
        Some(Some((host, rest))) => {
            (host, parse_port(rest.strip_prefix(':').ok_or(RedisAddressError::Host)?)?)
        }
        Some(None) => return Err(RedisAddressError::Host),
        None => match text.split_once(':') {
            Some((host, given)) => (host, parse_port(given)?),
            None => (text, port),
        },
    };
    let sound = !host.is_empty() && host.chars().all(|one| !one.is_whitespace() && !one.is_control());
    sound.then(|| (host.to_owned(), port)).ok_or(RedisAddressError::Host)
}

fn parse_port(text: &str) -> Result<u16, RedisAddressError> {
    text.parse().ok().filter(|port| *port > 0).ok_or(RedisAddressError::Port)
}

fn parse_database(text: &str) -> Result<i64, RedisAddressError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse::<u32>().map(i64::from).map_err(|_| RedisAddressError::Database)
}

fn parse_options(query: &str) -> Result<Vec<(String, String)>, RedisAddressError> {
    let options = query.split('&').filter(|option| !option.is_empty());
    options
        .map(|option| {
            let (name, value) = option.split_once('=').ok_or(RedisAddressError::Option)?;
            Ok((name.to_owned(), decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Result<String, RedisAddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(RedisAddressError::Encoding)?;
        let digits = str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or(RedisAddressError::Encoding)?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| RedisAddressError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RedisAddress {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn hosts(hosts: &[(&str, u16)]) -> Vec<(String, u16)> {
        hosts.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect()
    }

    #[test]
    fn a_single_server_has_a_login_a_port_and_a_database() {
        let plain = parse("redis://127.0.0.1");
        assert_eq!((plain.tls, plain.hosts, plain.database), (false, hosts(&[("127.0.0.1", 6379)]), 0));
        let full = parse("rediss://con%66ab:p%40ss%2Fw@[::1]:7000/3");
        assert_eq!((full.tls, full.hosts, full.database), (true, hosts(&[("::1", 7000)]), 3));
        assert_eq!(full.login.user.as_deref(), Some("confab"));
        assert_eq!(full.login.password.as_deref(), Some("p@ss/w"));
        let login = Login { user: None, password: Some("secret".into()) };
        assert!(parse("redis://:secret@host/").login == login);
    }

    #[test]
    fn sentinels_name_their_master_and_may_have_a_login_of_their_own() {
        let address = parse(
            "redis+sentinel://user:pass@one:1,two/main?db=2&sentinel_user=watch&sentinel_password=a%26b",
        );
        assert_eq!(address.hosts, hosts(&[("one", 1), ("two", 26379)]));
        assert_eq!(address.database, 2);
        let login = Login { user: Some("watch".into()), password: Some("a&b".into()) };
        assert!(address.topology == Topology::Sentinel { master: "main".into(), login });
    }

    #[test]
    fn a_cluster_has_several_hosts() {
        let address = parse("rediss+cluster://:pass@one,two:7001");
        assert!(address.tls && address.topology == Topology::Cluster);
        assert_eq!(address.hosts, hosts(&[("one", 6379), ("two", 7001)]));
    }

    #[test]
    fn what_is_malformed_is_refused_with_the_reason_and_without_the_password() {
        use RedisAddressError as E;
        let cases = [
            ("http://u:secret@host", E::Scheme),
            ("redis:u:secret@host", E::Scheme),
            ("redis+ring://u:secret@host", E::Scheme),
            ("redis://u:secret@", E::Host),
            ("redis://u:secret@[::1", E::Host),
            ("redis://u:secret@host:0", E::Port),
            ("redis://u:secret@host:port", E::Port),
            ("redis://u:secret@one,two", E::OneHost),
            ("redis://u:secret@host/zero", E::Database),
            ("redis://u:secret@host?protocol=resp3", E::Option),
            ("redis+cluster://u:secret@host/1", E::ClusterDatabase),
            ("redis+sentinel://u:secret@host", E::Master),
            ("redis+sentinel://u:secret@host/main?db=x", E::Database),
            ("redis+sentinel://u:secret@host/main?color=red", E::Option),
            ("redis://u:secret%4@host", E::Encoding),
            ("redis://u:secret%zz@host", E::Encoding),
        ];
        for (text, expected) in cases {
            let error = text.parse::<RedisAddress>().expect_err(text);
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
        assert!(!format!("{:?}", parse("redis://u:secret@host")).contains("secret"));
    }
}
