//! Password hashes: Argon2id on blocking threads, a bounded number at once.

use std::{sync::Arc, time::Duration};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use tokio::sync::Semaphore;

use crate::{Password, ServiceError, ServiceResult, model::text::PASSWORD_CHARS_MAX, port::Random};

/// OWASP Password Storage Cheat Sheet: Argon2id with 19 MiB, two iterations, one lane.
const MEMORY_KIB: u32 = 19_456;
const ITERATIONS: u32 = 2;
const LANES: u32 = 1;

/// How long a call may wait for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);

/// A hash of a password that nobody knows, verified for unknown users so that they take as long as known ones.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$Y29uZmFiLW5vYm9keQ$5x9KHAOtZ2vGyS2RkWvLsT4kSxMu4RIdRPvoBgBqzYE";

#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    random: Arc<dyn Random>,
}

/// How a verification went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    No,
    Yes,
    /// And the hash was made with weaker parameters than today's.
    YesButOld,
}

impl Passwords {
    /// Each hash takes 19 MiB while it is computed, so `at_once` bounds memory too.
    pub fn new(at_once: usize, random: Arc<dyn Random>) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once)), random }
    }

    pub async fn hash(&self, password: &Password) -> ServiceResult<String> {
        let mut salt = [0; 16];
        self.random.fill(&mut salt);
        let password = password.as_bytes().to_vec();
        self.run(move || {
            let hash = hasher()?.hash_password_with_salt(&password, &salt)?;
            Ok::<_, argon2::password_hash::Error>(hash.to_string())
        })
        .await?
        .map_err(|error| ServiceError::internal(error.to_string()))
    }

    /// `hash` is `None` for a user who does not exist; that takes as long as a wrong password.
    pub async fn verify(&self, password: &str, hash: Option<String>) -> ServiceResult<Verified> {
        // Nobody has a longer one, and hashing it would cost what the sender chooses.
        let possible = password.chars().count() <= PASSWORD_CHARS_MAX;
        let password = if possible { password.as_bytes().to_vec() } else { Vec::new() };
        let known = hash.is_some() && possible;
        let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
        self.run(move || {
            let matches = Argon2::default().verify_password(&password, hash.as_str()).is_ok();
            match (known && matches, is_current(&hash)) {
                (false, _) => Verified::No,
                (true, true) => Verified::Yes,
                (true, false) => Verified::YesButOld,
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> ServiceResult<T> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(ServiceError::unavailable("too many sign-ins at once; try again").after(TURN_TIMEOUT));
        };
        let work = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a caller that goes away does not free the turn while the hash goes on (trap 11).
            let _turn = turn;
            work()
        });
        work.await.map_err(ServiceError::internal)
    }
}

fn hasher() -> argon2::password_hash::Result<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, ITERATIONS, LANES, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Whether a hash was made with at least today's parameters.
fn is_current(hash: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    let Ok(params) = Params::try_from(&hash) else { return false };
    params.m_cost() >= MEMORY_KIB && params.t_cost() >= ITERATIONS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::ambient::SystemRandom;

    fn password(text: &str) -> Password {
        Password::new(&["password"], text.to_owned()).expect("a password")
    }

    #[tokio::test]
    async fn a_password_verifies_and_another_does_not() {
        let passwords = Passwords::new(2, Arc::new(SystemRandom));
        let hash = passwords.hash(&password("correct horse")).await.expect("hashes");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(passwords.verify("correct horse", Some(hash.clone())).await.expect("runs"), Verified::Yes);
        assert_eq!(passwords.verify("correct horsE", Some(hash.clone())).await.expect("runs"), Verified::No);
        assert_eq!(passwords.verify(&"x".repeat(100_000), Some(hash)).await.expect("runs"), Verified::No);
        assert_eq!(passwords.verify("correct horse", None).await.expect("runs"), Verified::No);
    }

    #[tokio::test]
    async fn a_weaker_hash_asks_for_a_new_one() {
        let params = Params::new(8192, 1, 1, None).expect("parameters");
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash = weak.hash_password_with_salt(b"correct horse", &[1; 16]).expect("hashes").to_string();
        let passwords = Passwords::new(2, Arc::new(SystemRandom));
        assert_eq!(passwords.verify("correct horse", Some(hash)).await.expect("runs"), Verified::YesButOld);
    }

    #[test]
    fn the_hash_of_nobody_costs_as_much_as_any() {
        assert!(is_current(NOBODY));
    }
}
