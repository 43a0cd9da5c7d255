//! Argon2id in memory that is used again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        CustomizedPasswordHasher, Error, Result,
        phc::{Output, ParamsString, PasswordHash, Salt},
    },
};

use super::PARAMETERS;

/// Makes hashes, and compares with them. To have 19 MiB mapped and cleared for each takes a third of its time, so the next is made where the
/// last one was. What no hash needs any more goes with the hasher.
#[derive(Default)]
pub(super) struct Hasher {
    /// As many as hashes were made at once; each for [`PARAMETERS`].
    free: Mutex<Vec<Vec<Block>>>,
}

impl Hasher {
    fn free(&self) -> MutexGuard<'_, Vec<Vec<Block>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, blocks: usize) -> Vec<Block> {
        let free = if blocks == PARAMETERS.block_count() { self.free().pop() } else { None };
        free.unwrap_or_else(|| vec![Block::default(); blocks])
    }

    fn put_back(&self, memory: Vec<Block>) {
        if memory.len() == PARAMETERS.block_count() {
            self.free().push(memory);
        }
    }
}

impl CustomizedPasswordHasher<PasswordHash> for Hasher {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> Result<PasswordHash> {
        let salt = Salt::new(salt)?;
        let algorithm = algorithm.map(Algorithm::try_from).transpose()?.unwrap_or_default();
        let version = version.map(Version::try_from).transpose()?.unwrap_or_default();
        let mut output = [0; Output::MAX_LENGTH];
        let output = output
            .get_mut(..params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN))
            .ok_or(Error::OutputSize)?;
        let argon2 = Argon2::new(algorithm, version, params);
        let mut memory = self.take(argon2.params().block_count());
        let made = argon2.hash_password_into_with_memory(password, &salt, output, &mut memory);
        self.put_back(memory);
        made?;
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(argon2.params())?,
            salt: Some(salt),
            hash: Some(Output::new(output)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};

    use super::*;

    #[test]
    fn what_it_makes_in_used_memory_is_what_the_library_makes() {
        let (hasher, library) = (Hasher::default(), Argon2::default());
        for (password, params) in [("first", PARAMETERS), ("second", PARAMETERS), ("weak", weak())] {
            let hash = hasher.hash_password_customized(password.as_bytes(), &[7; 16], None, None, params);
            let hash = hash.expect("hashes");
            assert!(library.verify_password(password.as_bytes(), &hash).is_ok(), "{hash}");
            assert!(library.verify_password(b"another", &hash).is_err(), "{hash}");
            assert_eq!(hasher.free().len(), 1, "one memory for all, and none of another size");
        }
        let of_library = Argon2::new(Algorithm::Argon2id, Version::V0x13, PARAMETERS)
            .hash_password_with_salt(b"third", &[7; 16])
            .expect("hashes");
        assert!(hasher.verify_password(b"third", &of_library).is_ok());
        assert_eq!(hasher.verify_password(b"fourth", &of_library), Err(Error::PasswordInvalid));
    }

    fn weak() -> Params {
        Params::new(8192, 1, 1, None).expect("sound")
    }
}
