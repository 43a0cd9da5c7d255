//! What nodes tell each other through Redis, where there is one.

use std::sync::Arc;

use domain::{
    LaneLayout,
    adapter::redis::{
        RedisBuckets, RedisBus, RedisBusSetup, RedisCache, RedisCommands, RedisDocuments, RedisPresence,
        RedisPresenceSetup, RedisServers, RedisWhispers, RedisWhispersSetup,
    },
    error::chain,
    port::{Buckets, Bus, Cache, Documents, Presence, Whispers},
};

use super::{Outcome, Process, random_node};

/// What nodes tell each other.
pub(super) struct Shared {
    pub bus: Arc<dyn Bus>,
    pub presence: Arc<dyn Presence>,
    pub whispers: Arc<dyn Whispers>,
    pub cache: Arc<dyn Cache>,
    pub documents: Arc<dyn Documents>,
    pub buckets: Arc<dyn Buckets>,
}

impl Process {
    /// `None` without a Redis.
    pub(super) fn redis(&self, installation: &str, layout: LaneLayout) -> Outcome<Option<Shared>> {
        let Some(address) = &self.settings.redis_url else { return Ok(None) };
        let servers = RedisServers::new(address, self.settings.redis_ca_file.as_ref())
            .map_err(|error| format!("CONFAB_REDIS_URL, CONFAB_REDIS_CA_FILE: {}", chain(&error)))?;
        let (node, prefix) = (random_node(), format!("confab:{installation}"));
        let setup = RedisBusSetup {
            servers: servers.clone(),
            installation: installation.to_owned(),
            layout,
            node,
            backlog_bytes_max: self.settings.bus_backlog_bytes_max,
            held: self.held(&self.stop_rest),
        };
        let bus = RedisBus::start(setup);
        self.readiness.without("redis", bus.is_connected());
        let commands = RedisCommands::start(servers.clone(), &self.held(&self.stop_rest));
        let whispers: Arc<dyn Whispers> = Arc::new(RedisWhispers::start(RedisWhispersSetup {
            servers,
            commands: commands.clone(),
            prefix: prefix.clone(),
            node,
            held: self.held(&self.stop_rest),
        }));
        let presence = RedisPresence::start(RedisPresenceSetup {
            commands: commands.clone(),
            prefix: prefix.clone(),
            node,
            whispers: whispers.clone(),
            switches: self.switches.clone(),
            held: self.held(&self.stop_rest),
        });
        let bounds = self.settings.domain_limits().documents;
        Ok(Some(Shared {
            bus: Arc::new(bus),
            presence: Arc::new(presence),
            whispers,
            documents: Arc::new(RedisDocuments::new(commands.clone(), &prefix, bounds)),
            buckets: Arc::new(RedisBuckets::new(commands.clone(), prefix.clone())),
            cache: Arc::new(RedisCache::new(commands, prefix)),
        }))
    }
}
