//! Sockets: bind, accept, reconcile with the snapshot.

pub mod bind;
pub mod handshakes;
pub mod linger;
