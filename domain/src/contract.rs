//! What lasts beyond this process: the outbox payload.
