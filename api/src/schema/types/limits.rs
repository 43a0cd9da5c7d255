//! What clients are held to.

use async_graphql::SimpleObject;
use domain::{
    Refill, Spent,
    model::{
        page::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX},
        text::MESSAGE_TEXT_BYTES_MAX,
    },
};

use super::scalars::DateTime;
use crate::settings::Settings;

/// The bounds of this server. Beyond one of them an operation is refused with `LIMIT_EXCEEDED`, unless the field says otherwise.
#[derive(Clone, Debug, SimpleObject)]
pub struct Limits {
    /// Bytes of a request over HTTP.
    body_bytes_max: i32,
    /// Bytes of a document.
    document_bytes_max: i32,
    /// Tokens of a document.
    document_tokens_max: i32,
    /// Brackets of a document that are open at once, of all three kinds together.
    document_nesting_max: i32,
    /// Fields below each other in a document; introspection is free.
    document_depth_max: i32,
    /// Selection sets and fragments inside each other in a document, introspection included.
    document_selection_nesting_max: i32,
    /// Lists of fields or of types inside each other in an introspection.
    document_introspection_lists_max: i32,
    /// Selections of a document with every fragment written out.
    document_selections_max: i32,
    /// Fragments of a document.
    document_fragments_max: i32,
    /// Operations of a document.
    document_operations_max: i32,
    /// Aliases in a document.
    document_aliases_max: i32,
    /// Directives in a document.
    document_directives_max: i32,
    /// Directives in one place of a document.
    document_directives_per_place_max: i32,
    /// Arrays and objects inside each other in a request.
    json_nesting_max: i32,
    /// Values in a request.
    json_values_max: i32,
    /// What an operation may cost, counted before it runs: an object 1, a mutation 10, and what is in a list as often as the list
    /// can be long (`first` or `last`; `pageSizeDefault` when nothing says how long). An operation costs 1 at least.
    operation_cost_max: i32,
    /// Milliseconds after which an operation is answered `UNAVAILABLE`.
    operation_timeout_ms: i32,
    /// Items of a page when nothing says how many.
    page_size_default: i32,
    /// Items of a page at most.
    page_size_max: i32,
    /// Ids in one list argument.
    ids_max: i32,
    /// Members of a group.
    group_members_max: i32,
    /// Bytes of a message's text in UTF-8.
    message_text_bytes_max: i32,
    /// Missed events that a resumed subscription is told; after more of them it is told to fetch anew.
    replay_events_max: i32,
    /// Hours after which an event cursor is too old to resume from.
    event_cursor_hours_max: i32,
    /// WebSockets of one user, on one server.
    sockets_per_user_max: i32,
    /// WebSockets of one address, on one server.
    sockets_per_address_max: i32,
    /// Operations open at once on one WebSocket.
    socket_operations_max: i32,
    /// Bytes of a message of the client's on a WebSocket.
    socket_message_bytes_max: i32,
    /// Messages that may wait for a client that reads slowly; one more closes its WebSocket with 4290.
    socket_queue_messages_max: i32,
    /// Bytes that may wait for such a client.
    socket_queue_bytes_max: i32,
    /// Milliseconds that a client may take to send `connection_init`.
    socket_init_timeout_ms: i32,
    /// Milliseconds between two pings of a WebSocket; after two without a sign of life it is dropped.
    socket_ping_interval_ms: i32,
    /// What a user may spend on operations; null where rates are not limited.
    user_budget: Option<Budget>,
    /// What all callers of one address may spend, signed in or not; null where rates are not limited.
    address_budget: Option<Budget>,
}

/// A budget in the units of `operationCostMax`. When it is spent, operations are refused with `RATE_LIMITED` and `retryAfterSeconds`.
#[derive(Clone, Debug, SimpleObject)]
pub struct Budget {
    /// What may be spent at once.
    burst: i32,
    /// How much of it comes back every second.
    per_second: i32,
}

/// What an operation costs, and what is left.
#[derive(Clone, Debug, SimpleObject)]
pub struct RateLimit {
    /// What this operation costs, in the units of `Limits.operationCostMax`.
    cost: i32,
    /// The budget that it is taken from.
    budget: Budget,
    /// What is left of the budget after this operation.
    remaining: i32,
    /// When all of the budget is there again, if nothing is spent until then.
    full_at: DateTime,
}

impl Limits {
    pub fn new(settings: &Settings, domain: &domain::Limits) -> Self {
        let limits = &settings.limits;
        let budget = |refill| domain.rate_limits.then(|| Budget::from(refill));
        Self {
            body_bytes_max: int(settings.body_bytes_max),
            document_bytes_max: int(limits.document_bytes_max),
            document_tokens_max: int(limits.document_tokens_max),
            document_nesting_max: int(limits.document_nesting_max),
            document_depth_max: int(limits.depth_max),
            document_selection_nesting_max: int(limits.selection_nesting_max),
            document_introspection_lists_max: int(limits.introspection_lists_max),
            document_selections_max: int(limits.selections_max),
            document_fragments_max: int(limits.fragments_max),
            document_operations_max: int(limits.operations_max),
            document_aliases_max: int(limits.aliases_max),
            document_directives_max: int(limits.directives_max),
            document_directives_per_place_max: int(limits.directives_per_place_max),
            json_nesting_max: int(limits.json_nesting_max),
            json_values_max: int(limits.json_values_max),
            operation_cost_max: int(limits.cost_max),
            operation_timeout_ms: int(settings.operation_timeout.as_millis()),
            page_size_default: PAGE_SIZE_DEFAULT,
            page_size_max: PAGE_SIZE_MAX,
            ids_max: int(domain.ids_max),
            group_members_max: int(domain.group_members_max),
            message_text_bytes_max: int(MESSAGE_TEXT_BYTES_MAX),
            replay_events_max: int(domain.replay_events_max),
            event_cursor_hours_max: int(domain.outbox_retention.as_secs() / 3600),
            sockets_per_user_max: int(settings.sockets.per_user_max),
            sockets_per_address_max: int(settings.sockets.per_address_max),
            socket_operations_max: int(settings.sockets.operations_max),
            socket_message_bytes_max: int(settings.sockets.message_bytes_max),
            socket_queue_messages_max: int(settings.sockets.queue_messages_max),
            socket_queue_bytes_max: int(settings.sockets.queue_bytes_max),
            socket_init_timeout_ms: int(settings.sockets.init_timeout.as_millis()),
            socket_ping_interval_ms: int(settings.sockets.ping_interval.as_millis()),
            user_budget: budget(domain.user_budget),
            address_budget: budget(domain.address_budget),
        }
    }
}

impl RateLimit {
    pub fn new(cost: u32, spent: Spent) -> Self {
        let full_at = spent.full_at.into();
        Self { cost: int(cost), budget: spent.budget.into(), remaining: int(spent.left), full_at }
    }
}

impl From<Refill> for Budget {
    fn from(refill: Refill) -> Self {
        Self { burst: int(refill.burst), per_second: int(refill.per_second) }
    }
}

/// What is larger than an `Int` is as good as no bound.
fn int(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}
