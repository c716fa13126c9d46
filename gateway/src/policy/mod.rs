//! Who may come in: decisions over addresses, pure. Lists are read, time is an argument.

pub mod deny;
pub mod prefixes;
