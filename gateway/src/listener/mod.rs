//! Sockets: bind, accept, reconcile with the snapshot, and a connection's way to HTTP.

pub mod accept;
pub mod bind;
pub mod handshakes;
pub mod linger;
pub mod proxy_protocol;
pub mod quota;
pub mod reconcile;
pub mod roster;
pub mod serve;
pub mod socket;
pub mod steer;
