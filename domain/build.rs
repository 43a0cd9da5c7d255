//! Compiles the protos, without an installed `protoc`.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

/// Messages whose text must never reach a log.
const SECRETS: [&str; 6] = [
    "confab.v1.ChangePasswordRequest",
    "confab.v1.Credentials",
    "confab.v1.RefreshSessionRequest",
    "confab.v1.RegisterRequest",
    "confab.v1.SignInRequest",
    "confab.v1.SignedIn",
];

#[expect(clippy::disallowed_methods, reason = "cargo tells build scripts by the environment")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["confab/v1/domain.proto", "confab/v1/queue.proto"], ["proto"])?;
    // What the reflection service tells.
    fs::write(Path::new(&env::var("OUT_DIR")?).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().skip_debug(SECRETS).compile_fds(descriptors)?;
    Ok(())
}
