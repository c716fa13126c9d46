//! Requests, by listener and route.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Histogram;

use super::ListenerMetrics;
use super::shelf::{Buckets, Grid, Shelf};
use crate::telemetry::labels::{COMMON_CODES, Method, code_index};

/// A route as it stands on a listener.
pub struct RouteMetrics {
    name: Arc<str>,
    requests: Grid<{ Method::ALL.len() * COMMON_CODES.len() }>,
    duration: Histogram,
    request_size: Histogram,
    response_size: Histogram,
}

impl RouteMetrics {
    pub(super) fn on(shelf: &mut Shelf, name: &str) -> Self {
        Self {
            name: name.into(),
            requests: shelf.grid(
                "yett_http_requests_total",
                "Requests that ended, by the status of their answer; code 0: without one",
                &["method", "code"],
            ),
            duration: shelf.histogram(
                "yett_http_request_duration_seconds",
                "Time from a request's head to the end of its answer",
                Buckets::Requests,
            ),
            request_size: shelf.histogram(
                "yett_http_request_size_bytes",
                "Size of request bodies as received",
                Buckets::Sizes,
            ),
            response_size: shelf.histogram(
                "yett_http_response_size_bytes",
                "Size of response bodies as sent",
                Buckets::Sizes,
            ),
        }
    }

    /// The label.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a request that ended. `code`: 0 where there was no answer.
    pub fn request(&self, method: Method, code: u16, elapsed: Duration, bytes_in: u64, bytes_out: u64) {
        match code_index(code) {
            Some(column) => {
                let cell = method as usize * COMMON_CODES.len() + column;
                self.requests.at(cell, || [method.as_str(), common_code(column)]).inc();
            }
            // The backend chooses its status codes; what HTTP does not define (RFC 9110 §15) shares one label.
            None if code < 600 => self.requests.rare(&[method.as_str(), &code.to_string()]).inc(),
            None => self.requests.rare(&[method.as_str(), "_other"]).inc(),
        }
        self.duration.observe(elapsed.as_secs_f64());
        self.request_size.observe(bytes_in as f64);
        self.response_size.observe(bytes_out as f64);
    }
}

impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RouteMetrics({})", self.name)
    }
}

/// A request in progress: counted in `yett_http_requests_active` until dropped.
#[derive(Debug)]
pub struct ActiveRequest(Arc<ListenerMetrics>);

impl ActiveRequest {
    pub(super) fn of(listener: Arc<ListenerMetrics>) -> Self {
        listener.requests_active.inc();
        Self(listener)
    }

    /// The listener.
    pub fn listener(&self) -> &Arc<ListenerMetrics> {
        &self.0
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.requests_active.dec();
    }
}

/// The text of a common code without making one.
pub(super) fn common_code(column: usize) -> &'static str {
    const TEXTS: [&str; COMMON_CODES.len()] = [
        "0", "101", "200", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308", "400",
        "401", "403", "404", "405", "408", "409", "412", "413", "414", "415", "421", "422", "429", "431",
        "500", "502", "503", "504",
    ];
    TEXTS[column]
}
