//! Connections served in one process: a raw client over a pipe, a raw backend on loopback.

mod backends;
mod connections;
mod hostile;
mod http1;
mod http2;
mod tunnels;
mod world;
