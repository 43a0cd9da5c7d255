//! Password hashes: Argon2id, a few at a time, on threads that may block.
//!
//! An unknown user costs the same work as a known one, so the time of an answer tells nothing.

mod hasher;

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use argon2::{
    Algorithm, Params,
    password_hash::{CustomizedPasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task, time,
};

use crate::{
    Limits, Password, ServiceError, ServiceResult, measure, model::text::PASSWORD_CHARS_MAX,
    passwords::hasher::Hasher, port::Random,
};

/// Memory of one hash, KiB: the OWASP Password Storage Cheat Sheet's first choice for Argon2id, 19 MiB with `t = 2`, `p = 1`.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const PARAMETERS: Params = match Params::new(MEMORY_KIB, PASSES, LANES, None) {
    Ok(parameters) => parameters,
    Err(_) => panic!("the parameters are sound"),
};
/// Bytes of salt: RFC 9106 section 3.1.
const SALT_BYTES: usize = 16;

/// Hashes and verifies passwords. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Passwords {
    /// There while anybody has a place or a hash is made.
    hasher: Arc<Mutex<Weak<Hasher>>>,
    turns: Arc<Semaphore>,
    /// Callers at work or waiting for their turn.
    places: Arc<Semaphore>,
    wait: Duration,
    random: Arc<dyn Random>,
}

/// The right to work on a hash, or to wait for a turn at it; given back when it is dropped.
pub(crate) struct Place {
    permit: OwnedSemaphorePermit,
    hasher: Arc<Hasher>,
}

/// What comparing a password with a hash showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wrong,
    Right {
        /// The hash was made with weaker parameters than today's.
        needs_rehash: bool,
    },
}

impl Passwords {
    /// `password_hashes_max` hashes at a time; each takes [`MEMORY_KIB`] and a thread.
    pub fn new(limits: &Limits, random: Arc<dyn Random>) -> Self {
        let at_once = limits.password_hashes_max.max(1);
        Self {
            hasher: Arc::default(),
            turns: Arc::new(Semaphore::new(at_once)),
            places: Arc::new(Semaphore::new(at_once.saturating_add(limits.password_queue_max))),
            wait: limits.password_wait,
            random,
        }
    }

    /// A place for somebody whose hash has to be read first: of a flood no more go to the database than can wait here.
    pub fn place(&self) -> ServiceResult<Place> {
        let permit = self.places.clone().try_acquire_owned().map_err(|_| self.full())?;
        Ok(Place { permit, hasher: self.hasher() })
    }

    fn hasher(&self) -> Arc<Hasher> {
        let mut last = self.hasher.lock().unwrap_or_else(PoisonError::into_inner);
        last.upgrade().unwrap_or_else(|| {
            let hasher = Arc::new(Hasher::default());
            *last = Arc::downgrade(&hasher);
            hasher
        })
    }

    fn full(&self) -> ServiceError {
        ServiceError::unavailable("too many people are signing in; try again").after(self.wait)
    }

    /// The hash of a password as a PHC string, with a fresh salt.
    pub async fn hash(&self, password: &Password) -> ServiceResult<String> {
        let mut salt = [0; SALT_BYTES];
        self.random.fill(&mut salt);
        let password = password.clone();
        self.run(self.place()?, move |hasher| hash(hasher, password.as_bytes(), &salt)).await?
    }

    /// Compares a password as typed with the hash of a user, or with nothing when there is no such user.
    pub async fn verify(
        &self,
        place: Place,
        password: String,
        hash_of_user: Option<String>,
    ) -> ServiceResult<Verdict> {
        if password.chars().count() > PASSWORD_CHARS_MAX {
            return Ok(Verdict::Wrong);
        }
        self.run(place, move |hasher| match hash_of_user {
            Some(hash) => verify(hasher, password.as_bytes(), &hash),
            None => hash(hasher, password.as_bytes(), &[0; SALT_BYTES]).map(|_| Verdict::Wrong),
        })
        .await?
    }

    async fn run<T: Send + 'static>(
        &self,
        Place { permit: _place, hasher }: Place,
        work: impl FnOnce(&Hasher) -> T + Send + 'static,
    ) -> ServiceResult<T> {
        let permit = time::timeout(self.wait, self.turns.clone().acquire_owned())
            .await
            .map_err(|_| self.full())?
            .map_err(ServiceError::internal)?;
        measure::count(measure::PASSWORD_HASHES, &[], 1);
        // The permit lives as long as the work does: a caller that goes away frees no turn early. The hasher ends there, too: to give
        // back its memory takes a while.
        task::spawn_blocking(move || hold(permit, || work(&hasher))).await.map_err(ServiceError::internal)
    }
}

fn hold<T>(permit: OwnedSemaphorePermit, work: impl FnOnce() -> T) -> T {
    let result = work();
    drop(permit);
    result
}

fn hash(hasher: &Hasher, password: &[u8], salt: &[u8]) -> ServiceResult<String> {
    let hash = hasher.hash_password_customized(password, salt, None, None, PARAMETERS);
    Ok(hash.map_err(ServiceError::internal)?.to_string())
}

fn verify(hasher: &Hasher, password: &[u8], hash: &str) -> ServiceResult<Verdict> {
    let hash = PasswordHash::new(hash).map_err(ServiceError::internal)?;
    match hasher.verify_password(password, &hash) {
        Ok(()) => Ok(Verdict::Right { needs_rehash: is_weaker(&hash) }),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(Verdict::Wrong),
        Err(error) => Err(ServiceError::internal(error)),
    }
}

fn is_weaker(hash: &PasswordHash) -> bool {
    let current = Params::try_from(hash).is_ok_and(|params| {
        params.m_cost() >= MEMORY_KIB && params.t_cost() >= PASSES && params.p_cost() >= LANES
    });
    hash.algorithm != Algorithm::Argon2id.ident() || !current
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SystemRandom;

    fn passwords(at_once: usize) -> Passwords {
        let limits = Limits { password_hashes_max: at_once, password_queue_max: 1, ..Limits::default() };
        Passwords::new(&limits, Arc::new(SystemRandom))
    }

    fn password(text: &str) -> Password {
        Password::new(&["password"], text.to_owned()).expect("a password")
    }

    #[tokio::test]
    async fn a_hash_is_argon2id_with_the_recommended_parameters_and_a_salt_of_its_own() {
        let passwords = passwords(2);
        let first = passwords.hash(&password("correct horse")).await.expect("hashes");
        let second = passwords.hash(&password("correct horse")).await.expect("hashes");
        assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
        assert_ne!(first, second);
        let place = || passwords.place().expect("a place");
        let verify = async |typed: &str| {
            passwords.verify(place(), typed.to_owned(), Some(first.clone())).await.expect("verifies")
        };
        assert_eq!(verify("correct horse").await, Verdict::Right { needs_rehash: false });
        assert_eq!(verify("correct horsf").await, Verdict::Wrong);
        assert_eq!(verify("").await, Verdict::Wrong);
        assert_eq!(verify(&"x".repeat(129)).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn unicode_and_nul_in_passwords_count() {
        let passwords = passwords(2);
        let hash = passwords.hash(&password("pass\0wörd")).await.expect("hashes");
        for (typed, right) in
            [("pass\0wörd", true), ("pass", false), ("pass\0word", false), ("pass\0wo\u{308}rd", false)]
        {
            let place = passwords.place().expect("a place");
            let verdict =
                passwords.verify(place, typed.to_owned(), Some(hash.clone())).await.expect("verifies");
            assert_eq!(verdict != Verdict::Wrong, right, "{typed:?}");
        }
    }

    #[tokio::test]
    async fn a_hash_with_weaker_parameters_asks_for_a_new_one() {
        let weak = Params::new(8192, 1, 1, None).expect("sound");
        let salt = &[1; SALT_BYTES];
        let hash = Hasher::default().hash_password_customized(b"correct horse", salt, None, None, weak);
        let hash = hash.expect("hashes").to_string();
        let passwords = passwords(1);
        let place = passwords.place().expect("a place");
        let verdict =
            passwords.verify(place, "correct horse".to_owned(), Some(hash)).await.expect("verifies");
        assert_eq!(verdict, Verdict::Right { needs_rehash: true });
    }

    #[tokio::test]
    async fn memory_of_hashes_goes_when_nobody_signs_in_any_more() {
        let passwords = passwords(1);
        let waiting = passwords.place().expect("a place");
        passwords.hash(&password("correct horse")).await.expect("hashes");
        let hasher = Arc::downgrade(&waiting.hasher);
        assert!(Arc::ptr_eq(&passwords.hasher(), &waiting.hasher), "kept for who waits");
        drop(waiting);
        assert_eq!(hasher.strong_count(), 0);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_frees_no_turn_before_its_work_is_done() {
        let passwords = passwords(1);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (started, wait) = tokio::sync::oneshot::channel();
        let work = passwords.clone();
        let caller = task::JoinSet::from_iter([async move {
            let place = work.place().expect("a place");
            work.run(place, move |_| {
                started.send(()).expect("waited for");
                held.recv().ok();
            })
            .await
        }]);
        wait.await.expect("starts");
        drop(caller);
        task::yield_now().await;
        assert_eq!(passwords.turns.available_permits(), 0);
        // The caller that left holds no place any more: two may wait.
        let waiting = || {
            let place = passwords.place().expect("a place");
            passwords.verify(place, "correct horse".to_owned(), None)
        };
        let one_more = async {
            let begun = time::Instant::now();
            let refused = passwords.place().map(drop).expect_err("no place");
            (refused.code(), begun.elapsed() < Duration::from_secs(1))
        };
        let (first, second, one_more) = tokio::join!(waiting(), waiting(), one_more);
        for waited in [first, second] {
            assert_eq!(waited.expect_err("no turn in time").code(), crate::ErrorCode::Unavailable);
        }
        assert_eq!(one_more, (crate::ErrorCode::Unavailable, true), "at once");
        release.send(()).expect("still at work");
        assert_eq!(waiting().await.expect("a turn"), Verdict::Wrong);
    }
}
