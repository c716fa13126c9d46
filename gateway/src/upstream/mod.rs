//! The upstream side: endpoints, pools, exchanges.
