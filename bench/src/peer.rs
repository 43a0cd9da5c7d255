//! The Node peers: installed in the user's cache folder. That of B6 has tables like ours in the benchmark's database.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use domain::UserId;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sea_orm::ConnectionTrait as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    database::Bench,
    servers::{ServerProcess, on_cores},
};

const FILES: [&str; 4] = ["package.json", "package-lock.json", ".npmrc", "server.mjs"];
const SECRET: &str = "a-secret-of-the-benchmark-alone";
/// Longer than any run.
const TOKEN_SECONDS: u64 = 3600;

/// Running, on copies of the conversations that there are.
pub async fn start(bench: &Bench) -> ServerProcess {
    let copied = "INSERT INTO bench_conversation SELECT * FROM conversation";
    bench.raw.execute_unprepared(copied).await.expect("conversations for the peer");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr()).expect("a port").port();
    let folder = install("yoga").expect("npm installs the peer");
    let mut command = Command::new("node");
    command
        .current_dir(folder)
        .arg("server.mjs")
        .env("NODE_ENV", "production")
        .env("DATABASE_URL", &bench.url)
        .env("TOKEN_SECRET", SECRET)
        .env("PORT", port.to_string());
    ServerProcess::start(&mut command)
}

/// Live messages on graphql-ws; on these cores, or on all.
pub fn live(cores: Option<&str>) -> ServerProcess {
    let folder = install("graphql-ws").expect("npm installs the peer");
    let mut command = on_cores(cores, "node");
    ServerProcess::start(command.current_dir(folder).arg("server.mjs").env("NODE_ENV", "production"))
}

/// A folder of its own for each version of the files.
fn install(name: &str) -> io::Result<PathBuf> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name);
    let mut version = Sha256::new();
    for file in FILES {
        version.update(fs::read(from.join(file))?);
    }
    let version = URL_SAFE_NO_PAD.encode(&version.finalize()[..9]);
    let folder = cache().join("confab/peers").join(format!("{name}-{version}"));
    if folder.join("node_modules/.package-lock.json").exists() {
        return Ok(folder);
    }
    fs::create_dir_all(&folder)?;
    for file in FILES {
        fs::copy(from.join(file), folder.join(file))?;
    }
    println!("installing the Node peer in {}", folder.display());
    let status = Command::new("npm").args(["ci", "--omit=dev", "--silent"]).current_dir(&folder).status()?;
    if status.success() { Ok(folder) } else { Err(io::Error::other(format!("npm ci: {status}"))) }
}

#[expect(clippy::disallowed_methods, reason = "where the user keeps caches")]
fn cache() -> PathBuf {
    let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    set.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"))
}

/// A JWT in the peer's own form.
pub fn token(user: UserId) -> String {
    #[expect(clippy::disallowed_methods, reason = "Node looks at the clock of the machine")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let claims = json!({ "sub": user.0.to_string(), "iat": now, "exp": now + TOKEN_SECONDS });
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}
