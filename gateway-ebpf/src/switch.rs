//! The switches that the loader sets in `.rodata` before a program loads. The verifier knows their values and removes
//! what they turn off; the compiler must not know them, so they are read as volatile.

#[unsafe(no_mangle)]
static SWITCH_DENY: u8 = 1;
#[unsafe(no_mangle)]
static SWITCH_LIMIT: u8 = 0;
#[unsafe(no_mangle)]
static SWITCH_SLOTS: u8 = 1;
#[unsafe(no_mangle)]
static SWITCH_EVENTS: u8 = 1;
#[unsafe(no_mangle)]
static SWITCH_PIN_CPU: u8 = 1;
#[unsafe(no_mangle)]
static SWITCH_RAW_IP: u8 = 0;
#[unsafe(no_mangle)]
static SWITCH_FRESH: u8 = 0;
#[unsafe(no_mangle)]
static EVENT_MASK: u32 = 63;
#[unsafe(no_mangle)]
static SEED: u64 = 0;

/// Whether SYNs are looked up in the deny list.
#[inline(always)]
pub fn deny() -> bool {
    read(&SWITCH_DENY) != 0
}

/// Whether sources are held to a pace.
#[inline(always)]
pub fn limit() -> bool {
    read(&SWITCH_LIMIT) != 0
}

/// Whether SYNs leave their time behind.
#[inline(always)]
pub fn slots() -> bool {
    read(&SWITCH_SLOTS) != 0
}

/// Whether rare happenings are reported.
#[inline(always)]
pub fn events() -> bool {
    read(&SWITCH_EVENTS) != 0
}

/// Whether a connection goes to the worker of the CPU that its SYN came to.
#[inline(always)]
pub fn pin_cpu() -> bool {
    read(&SWITCH_PIN_CPU) != 0
}

/// Whether packets begin with the IP header.
#[inline(always)]
pub fn raw_ip() -> bool {
    read(&SWITCH_RAW_IP) != 0
}

/// Whether every SYN counts as a first one: for measurements.
#[inline(always)]
pub fn fresh() -> bool {
    read(&SWITCH_FRESH) != 0
}

/// Of how many drops, less one, one is reported.
#[inline(always)]
pub fn event_mask() -> u32 {
    read(&EVENT_MASK)
}

/// The secret of the hashes.
#[inline(always)]
pub fn seed() -> u64 {
    read(&SEED)
}

#[inline(always)]
fn read<T: Copy>(switch: &T) -> T {
    // SAFETY: a reference to a static is valid to read.
    unsafe { core::ptr::read_volatile(switch) }
}
