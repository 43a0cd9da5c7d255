//! Storage in SQL.
