//! Namespace: of interest for its labels alone, which selectors of listeners ask for.

use serde::Deserialize;

/// A core `v1` Namespace; all that matters stands in its metadata.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct Namespace {}
