//! Who an access token speaks for.

use crate::{Caller, Chat, ServiceError, ServiceResult};

impl Chat {
    /// Verifies an access token and that its session has not been ended. `UNAUTHENTICATED` otherwise.
    pub async fn authenticate(&self, access_token: &str) -> ServiceResult<Caller> {
        let _ = access_token;
        Err(ServiceError::unavailable("stub"))
    }
}
