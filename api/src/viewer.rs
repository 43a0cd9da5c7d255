//! Who asks, and from where: data of every request.

use std::net::IpAddr;

use domain::{Caller, ServiceError, ServiceResult};

/// The signed-in caller of a request; `None` when it came without a token.
#[derive(Clone, Copy, Debug)]
pub struct Viewer(pub Option<Caller>);

impl Viewer {
    /// `UNAUTHENTICATED` for operations that need somebody.
    pub fn caller(&self) -> ServiceResult<&Caller> {
        self.0.as_ref().ok_or_else(|| ServiceError::unauthenticated("this needs a signed-in caller"))
    }
}

/// The address that limits on attempts count against, after trusted proxies.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub Option<IpAddr>);
