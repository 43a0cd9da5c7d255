//! A device asks for pushes.

use async_graphql::{Context, InputObject, OneofObject, SimpleObject};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use domain::{PushAddress, ServiceError, ServiceResult, Subscription};

use crate::schema::{
    error::{Result, settle},
    request::RequestContext,
    types::{push::PushProvider, user_error::UserError},
};

/// As browsers write keys, with or without padding.
const KEYS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where the device that asks is reached.
#[derive(InputObject)]
pub struct RegisterDeviceInput {
    /// The provider's address of the device.
    device: DeviceInput,
}

/// An address of one of the providers.
#[derive(OneofObject)]
pub enum DeviceInput {
    /// An iPhone, iPad, Mac or Apple Watch.
    Apns(ApnsDeviceInput),
    /// An app that uses Firebase.
    Fcm(FcmDeviceInput),
    /// A browser.
    WebPush(WebPushDeviceInput),
}

/// An app on a device of Apple.
#[derive(InputObject)]
pub struct ApnsDeviceInput {
    /// The device token, 64 to 200 hex digits.
    token: String,
}

/// An app that uses Firebase.
#[derive(InputObject)]
pub struct FcmDeviceInput {
    /// The registration token, 1 to 4,096 visible ASCII characters.
    token: String,
}

/// A `PushSubscription` of a browser, made with `webPushPublicKey` as `applicationServerKey`.
#[derive(InputObject)]
pub struct WebPushDeviceInput {
    /// Its `endpoint`: an URL of at most 4,096 characters.
    endpoint: String,
    /// Its key `p256dh`: 65 bytes in base64url.
    p256dh: String,
    /// Its key `auth`: 16 bytes in base64url.
    auth: String,
}

/// The answer to `registerDevice`.
#[derive(SimpleObject)]
pub struct RegisterDevicePayload {
    /// Who delivers pushes to this session from now on; null when there are user errors.
    provider: Option<PushProvider>,
    /// What the caller did wrong; empty when it was done.
    user_errors: Vec<UserError>,
}

pub async fn register_device(ctx: &Context<'_>, input: RegisterDeviceInput) -> Result<RegisterDevicePayload> {
    let (provider, user_errors) = settle(run(ctx, input).await)?;
    Ok(RegisterDevicePayload { provider, user_errors })
}

async fn run(ctx: &Context<'_>, input: RegisterDeviceInput) -> ServiceResult<PushProvider> {
    let caller = ctx.caller()?;
    let address = match input.device {
        DeviceInput::Apns(ApnsDeviceInput { token }) => PushAddress::Apns(token),
        DeviceInput::Fcm(FcmDeviceInput { token }) => PushAddress::Fcm(token),
        DeviceInput::WebPush(WebPushDeviceInput { endpoint, p256dh, auth }) => {
            PushAddress::WebPush(Box::new(Subscription {
                endpoint,
                p256dh: key(&["device", "webPush", "p256dh"], &p256dh, "`p256dh` is 65 bytes in base64url")?,
                auth: key(&["device", "webPush", "auth"], &auth, "`auth` is 16 bytes in base64url")?,
            }))
        }
    };
    Ok(ctx.chat().register_device(caller, address).await?.into())
}

fn key<const N: usize>(
    field: &'static [&'static str],
    text: &str,
    what: &'static str,
) -> ServiceResult<[u8; N]> {
    let bytes = KEYS.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| ServiceError::invalid(field, what))
}
