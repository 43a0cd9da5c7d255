//! New credentials for a spent refresh token.

use crate::{Chat, Credentials, ServiceError, ServiceResult};

impl Chat {
    pub async fn refresh_session(&self, refresh_token: &str) -> ServiceResult<Credentials> {
        let _ = refresh_token;
        Err(ServiceError::unavailable("stub"))
    }
}
