//! A session's device asks for pushes, and no longer.

use std::collections::HashMap;

use crate::{Caller, Domain, PushAddress, PushProvider, ServiceError, ServiceResult, SessionId};

impl Domain {
    /// In place of what the session had. Another session that had the address has none from now on: one device, one user.
    pub async fn register_device(
        &self,
        caller: &Caller,
        address: PushAddress,
    ) -> ServiceResult<PushProvider> {
        address.check()?;
        let provider = address.provider();
        let (devices, caller, now) = (self.services.devices.clone(), *caller, self.services.clock.now());
        let register =
            self.services.tasks.spawn(async move { devices.register(&caller, &address, now).await });
        register.await.map_err(ServiceError::internal)??;
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
