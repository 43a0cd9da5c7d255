//! The one place that names concrete adapters.
