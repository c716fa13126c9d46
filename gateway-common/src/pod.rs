//! What makes the map types plain old data in aya's eyes; the only unsafe of this crate.
#![allow(unsafe_code, reason = "aya's marker trait is unsafe to implement")]

use crate::key::FrontendKey;
use crate::value::{Bucket, Connection, Control, Counters, Event, Frontend, Recent, Slot, Totals};

macro_rules! pod {
    ($($plain:ty),* $(,)?) => {
        $(
            // SAFETY: repr(C), fields of integers and arrays of them alone, no padding that the fields do not spell
            // out (the sizes are asserted), so every byte is initialised and every pattern of bytes is a value.
            unsafe impl aya::Pod for $plain {}
        )*
    };
}

pod!(FrontendKey, Frontend, Recent, Control, Counters, Totals, Slot, Bucket, Connection, Event);
