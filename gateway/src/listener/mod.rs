//! Sockets: bind, accept, reconcile with the snapshot.

pub mod accept;
pub mod bind;
pub mod handshakes;
pub mod linger;
pub mod reconcile;
