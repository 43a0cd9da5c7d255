//! Which providers there are, and how each knows us.

use std::path::PathBuf;

/// Which providers there are; none is fine.
#[derive(Clone, Debug, Default)]
pub struct PushSettings {
    pub apns: Option<ApnsSettings>,
    pub fcm: Option<FcmSettings>,
    pub web: Option<WebPushSettings>,
    /// Whether a push shows what was written.
    pub shows_text: bool,
    /// Whether browsers' endpoints may have private addresses.
    pub private_endpoints: bool,
}

impl PushSettings {
    pub const fn is_any(&self) -> bool {
        self.apns.is_some() || self.fcm.is_some() || self.web.is_some()
    }
}

#[derive(Clone, Debug)]
pub struct ApnsSettings {
    pub url: String,
    /// A `.p8` file: PKCS #8 in PEM.
    pub key: PathBuf,
    pub key_id: String,
    pub team_id: String,
    /// The app's bundle id.
    pub topic: String,
}

#[derive(Clone, Debug)]
pub struct FcmSettings {
    pub url: String,
    /// The JSON file of a service account.
    pub account: PathBuf,
}

#[derive(Clone, Debug)]
pub struct WebPushSettings {
    /// PKCS #8 in PEM, of the curve P-256.
    pub key: PathBuf,
    /// `mailto:` or `https:`: whom a push service asks about us.
    pub subject: String,
}
