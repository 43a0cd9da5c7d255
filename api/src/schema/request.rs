//! What a request carries for its resolvers.

use std::net::IpAddr;

use async_graphql::{Context, Request};
use domain::{Caller, Chat, ServiceResult};

use super::loaders::Loaders;
use crate::viewer::{ClientAddress, Viewer};

/// Adds what resolvers rely on. Loaders are made afresh, so that nothing one request read is shown to another.
pub fn request_data(
    request: Request,
    chat: &Chat,
    viewer: Option<Caller>,
    address: Option<IpAddr>,
) -> Request {
    request.data(Viewer(viewer)).data(ClientAddress(address)).data(Loaders::new(chat, viewer))
}

/// What resolvers take from their context.
pub trait RequestContext<'a> {
    fn chat(&self) -> &'a Chat;
    fn viewer(&self) -> &'a Viewer;
    fn caller(&self) -> ServiceResult<&'a Caller>;
    fn address(&self) -> Option<IpAddr>;
    fn loaders(&self) -> &'a Loaders;
}

impl<'a> RequestContext<'a> for Context<'a> {
    fn chat(&self) -> &'a Chat {
        self.data_unchecked()
    }

    fn viewer(&self) -> &'a Viewer {
        self.data_unchecked()
    }

    fn caller(&self) -> ServiceResult<&'a Caller> {
        self.viewer().caller()
    }

    fn address(&self) -> Option<IpAddr> {
        self.data_opt::<ClientAddress>().and_then(|address| address.0)
    }

    fn loaders(&self) -> &'a Loaders {
        self.data_unchecked()
    }
}
