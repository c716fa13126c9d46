//! Sockets: bind, accept, reconcile with the snapshot.
