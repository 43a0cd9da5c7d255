//! A session's device asks for pushes, and no longer.

use std::collections::HashMap;

use super::Services;
use crate::{
    Caller, Domain, ErrorCode, PushAddress, PushProvider, ServiceError, ServiceResult, SessionId,
    port::StoreError,
};

impl Domain {
    /// In place of what the session had. Another session that had the address has none from now on: one device, one user.
    pub async fn register_device(
        &self,
        caller: &Caller,
        address: PushAddress,
    ) -> ServiceResult<PushProvider> {
        address.check(self.services.limits.push_private_endpoints)?;
        let provider = address.provider();
        let (domain, caller, now) = (self.clone(), *caller, self.services.clock.now());
        let register = self.services.tasks.spawn(async move {
            let Services { devices, .. } = &*domain.services;
            let register = || async {
                match devices.register(&caller, &address, now).await {
                    // Two sessions at once with one address: the later one has it.
                    Err(StoreError::Duplicate(cause)) => Err(StoreError::Conflict(cause)),
                    outcome => outcome,
                }
            };
            domain.retried(register).await
        });
        if !register.await.map_err(ServiceError::internal)?? {
            return Err(ServiceError::new(ErrorCode::Unauthenticated, "the session has ended"));
        }
        Ok(provider)
    }

    /// For one of the caller's sessions; one that is not registered stays so.
    pub async fn unregister_device(&self, caller: &Caller, session: SessionId) -> ServiceResult<()> {
        let (devices, user) = (self.services.devices.clone(), caller.user);
        let unregister = self.services.tasks.spawn(async move { devices.unregister(user, session).await });
        Ok(unregister.await.map_err(ServiceError::internal)??)
    }

    /// Which of the caller's sessions get pushes.
    pub async fn push_providers(&self, caller: &Caller) -> ServiceResult<HashMap<SessionId, PushProvider>> {
        let sessions: Vec<SessionId> =
            self.sessions(caller).await?.iter().map(|session| session.id).collect();
        Ok(self.services.devices.providers(&sessions).await?)
    }
}
