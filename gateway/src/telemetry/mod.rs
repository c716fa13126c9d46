//! Metrics, access log, operational log.
