//! Users with their secrets, sessions, refresh tokens.
