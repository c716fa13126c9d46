//! The user-space half of the datapath: what is loaded into the kernel, kept in step with the configuration, and read
//! back. So far it holds the object that the kernel programs come in; nothing loads it yet.

pub mod object;
