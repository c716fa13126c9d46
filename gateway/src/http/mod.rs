//! The downstream side of HTTP: from a request to its answer.
