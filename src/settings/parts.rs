//! What the parts of the process get of the settings.

use std::time::Duration;

use api::{activity::ActivityLimits, guard, hub::HubLimits, server::TlsFiles, settings::SocketSettings};
use domain::{DocumentBounds, Limits, Rate, Refill};

use super::Settings;

impl Settings {
    pub fn domain_limits(&self) -> Limits {
        let rate = |burst, refill_ms| Rate { burst, refill: Duration::from_millis(refill_ms) };
        Limits {
            group_members_max: self.group_members_max,
            ids_max: self.ids_max,
            receipts_members_max: self.receipts_members_max,
            fanout_inline_members_max: self.fanout_inline_members_max,
            push_private_endpoints: self.push_private_endpoints,
            commit_queue_max: self.commit_queue_max,
            batch_messages_max: self.batch_messages_max,
            batch_bytes_max: self.batch_bytes_max,
            retries_max: self.retries_max,
            send_timeout: Duration::from_millis(self.send_timeout_ms),
            replay_events_max: self.replay_events_max,
            outbox_retention: Duration::from_hours(self.outbox_retention_hours),
            password_hashes_max: self.password_hashes_max,
            password_queue_max: self.password_queue_max,
            password_wait: Duration::from_millis(self.password_wait_ms),
            sign_in_pair_rate: rate(self.sign_in_pair_burst, self.sign_in_pair_refill_ms),
            sign_in_address_rate: rate(self.sign_in_address_burst, self.sign_in_address_refill_ms),
            sign_in_account_rate: rate(self.sign_in_account_burst, self.sign_in_account_refill_ms),
            registration_rate: rate(self.registration_burst, self.registration_refill_ms),
            typing_rate: rate(self.typing_burst, self.typing_refill_ms),
            documents: DocumentBounds {
                documents_max: self.persisted_documents_max,
                bytes_max: self.persisted_documents_bytes_max,
            },
            user_budget: Refill { burst: self.user_budget_burst, per_second: self.user_budget_per_second },
            address_budget: Refill {
                burst: self.address_budget_burst,
                per_second: self.address_budget_per_second,
            },
            rate_limits: self.rate_limits,
        }
    }

    /// `None` without both files.
    fn tls_files(&self) -> Option<TlsFiles> {
        Some(TlsFiles { certificate: self.tls_certificate.clone()?, key: self.tls_key.clone()? })
    }

    pub fn hub_limits(&self) -> HubLimits {
        HubLimits {
            heads_interval: Duration::from_millis(self.heads_interval_ms),
            gap_timeout: Duration::from_millis(self.gap_timeout_ms),
            view_age_max: Duration::from_millis(self.view_age_max_ms),
            view_lost_after: Duration::from_millis(self.view_lost_after_ms),
            recent_batches_max: self.recent_batches_max,
            recent_batches_bytes_max: self.recent_batches_bytes_max,
            ahead_batches_max: self.ahead_batches_max,
            ahead_batches_bytes_max: self.ahead_batches_bytes_max,
            feed_bytes_max: self.feed_bytes_max,
            execution_timeout: Duration::from_millis(self.event_timeout_ms),
        }
    }

    pub fn activity_limits(&self) -> ActivityLimits {
        ActivityLimits {
            watches_max: self.activity_watches_max,
            watches_per_user_max: self.activity_watches_per_user_max,
            users_max: self.activity_users_max,
            execution_timeout: Duration::from_millis(self.event_timeout_ms),
        }
    }

    pub fn api(&self) -> api::settings::Settings {
        // Rates are lifted for load tests; bounds on size, depth and cost stay.
        let unless_lifted = |bound: usize| if self.rate_limits { bound } else { self.sockets_max };
        api::settings::Settings {
            listen: self.listen,
            allowed_origins: self.allowed_origins.clone(),
            trusted_hops: self.trusted_hops,
            tls: self.tls_files(),
            connections_max: self.connections_max,
            connections_per_address_max: if self.rate_limits {
                self.connections_per_address_max
            } else {
                self.connections_max
            },
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            header_timeout: Duration::from_millis(self.header_timeout_ms),
            body_timeout: Duration::from_millis(self.body_timeout_ms),
            body_bytes_max: self.body_bytes_max,
            operation_timeout: Duration::from_millis(self.operation_timeout_ms),
            operations_max: self.operations_max,
            cached_documents_bytes_max: self.cached_documents_bytes_max,
            trusted_documents: self.trusted_documents.0.clone(),
            limits: guard::Limits {
                document_bytes_max: self.document_bytes_max,
                document_tokens_max: self.document_tokens_max,
                document_nesting_max: self.document_nesting_max,
                depth_max: self.document_depth_max,
                selection_nesting_max: self.document_selection_nesting_max,
                introspection_lists_max: self.document_introspection_lists_max,
                selections_max: self.document_selections_max,
                fragments_max: self.document_fragments_max,
                operations_max: self.document_operations_max,
                aliases_max: self.document_aliases_max,
                directives_max: self.document_directives_max,
                directives_per_place_max: self.document_directives_per_place_max,
                json_nesting_max: self.json_nesting_max,
                json_values_max: self.json_values_max,
                cost_max: self.operation_cost_max,
            },
            sockets: SocketSettings {
                total_max: self.sockets_max,
                per_user_max: unless_lifted(self.sockets_per_user_max),
                per_address_max: unless_lifted(self.sockets_per_address_max),
                opened_per_second_max: if self.rate_limits {
                    self.sockets_opened_per_second_max
                } else {
                    u32::MAX
                },
                operations_max: self.socket_operations_max,
                message_bytes_max: self.socket_message_bytes_max,
                queue_messages_max: self.socket_queue_messages_max,
                queue_bytes_max: self.socket_queue_bytes_max,
                init_timeout: Duration::from_millis(self.socket_init_timeout_ms),
                ping_interval: Duration::from_millis(self.socket_ping_interval_ms),
                write_timeout: Duration::from_millis(self.socket_write_timeout_ms),
            },
            drain_spread: Duration::from_millis(self.drain_spread_ms),
            drain_timeout: Duration::from_millis(self.drain_timeout_ms),
        }
    }
}
