//! The allocator's memory, given back to the system. What threads have freed stays with them until they allocate again,
//! and an idle thread does not.

/// Gives back what this thread has freed.
#[allow(unsafe_code, reason = "the library's own function, which has no precondition; nothing wraps it")]
pub fn collect() {
    // SAFETY: it may be called at any time by any thread; it touches free memory alone.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
