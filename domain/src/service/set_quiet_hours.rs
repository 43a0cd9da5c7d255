//! No pushes at some hours of the day.

use crate::{Caller, Domain, QuietHours, ServiceError, ServiceResult};

impl Domain {
    /// `None` for none.
    pub async fn set_quiet_hours(&self, caller: &Caller, hours: Option<QuietHours>) -> ServiceResult<()> {
        let (devices, user) = (self.services.devices.clone(), caller.user);
        let set =
            self.services.tasks.spawn(async move { devices.set_quiet_hours(user, hours.as_ref()).await });
        Ok(set.await.map_err(ServiceError::internal)??)
    }

    pub async fn quiet_hours(&self, caller: &Caller) -> ServiceResult<Option<QuietHours>> {
        Ok(self.services.devices.quiet_hours(caller.user).await?)
    }
}
