//! Match order of the specification: which rule a request meets. Pure.
//!
//! In come a listener's rules, each with whatever its owner wants back for it; out comes a [`Table`] that answers
//! which of them a request meets. What the rule then does is not known here.

pub mod host;
pub mod path;
pub mod table;

pub use host::HostMap;
pub use path::{Ambiguity, ambiguity, readings};
pub use table::{Asked, Found, Table};
