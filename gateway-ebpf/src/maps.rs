//! The maps, under the names that `gateway_common::object::map` lists, with the accesses that aya-ebpf has no safe
//! function for.

use core::ptr::NonNull;

use aya_ebpf::bindings::{BPF_F_CLONE, BPF_F_NO_PREALLOC, bpf_map_type, bpf_sock};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, ReusePortSockArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::btf_map;
use gateway_common::key::{Address, FrontendKey, unmapped};
use gateway_common::object::{
    BUCKETS_MAX, CPUS_MAX, EVENTS_BYTES_MAX, FRONTENDS_MAX, PREFIXES_MAX, SLOTS_MAX, SOCKETS_MAX, WORKERS_MAX,
};
use gateway_common::value::{
    Bucket, Connection, Control, Counters, Event, Frontend, RECENT_BITS, Recent, Slot, Totals,
};

#[btf_map]
pub static PORTS: Array<u32, 65_536> = Array::new();
#[btf_map]
pub static FRONTENDS: HashMap<FrontendKey, Frontend, { FRONTENDS_MAX as usize }> = HashMap::new();
#[btf_map]
pub static CONTROL: Array<Control, 1> = Array::new();
#[btf_map]
static DENY4: LpmTrie<u32, u32, { PREFIXES_MAX as usize }> = LpmTrie::new();
#[btf_map]
static DENY6: LpmTrie<Address, u32, { PREFIXES_MAX as usize }> = LpmTrie::new();
#[btf_map]
static ALLOW4: LpmTrie<u32, u32, { PREFIXES_MAX as usize }> = LpmTrie::new();
#[btf_map]
static ALLOW6: LpmTrie<Address, u32, { PREFIXES_MAX as usize }> = LpmTrie::new();
#[btf_map]
pub static CPUS: Array<u32, { CPUS_MAX as usize }> = Array::new();
#[btf_map]
pub static WORKERS: Array<u32, { WORKERS_MAX as usize }> = Array::new();
#[btf_map]
pub static SOCKETS: ReusePortSockArray<{ SOCKETS_MAX as usize }> = ReusePortSockArray::new();
#[btf_map]
static CONNECTIONS: Storage<Connection, CLONED> = Storage::new();
#[btf_map]
static ACCEPTED: Storage<u64, OWN> = Storage::new();
#[btf_map]
pub static SLOTS: Array<Slot, { SLOTS_MAX as usize }> = Array::new();
#[btf_map]
pub static BUCKETS: Array<Bucket, { BUCKETS_MAX as usize }> = Array::new();
#[btf_map]
static RECENT: PerCpuArray<Recent, { 1 << RECENT_BITS }> = PerCpuArray::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counters, { FRONTENDS_MAX as usize }> = PerCpuArray::new();
#[btf_map]
static TOTALS: PerCpuArray<Totals, 1> = PerCpuArray::new();
#[btf_map]
pub static EVENTS: RingBuf<Event, { EVENTS_BYTES_MAX as usize }> = RingBuf::new();

/// Storage of sockets. aya-ebpf's own takes no flags and only the context of another hook.
#[repr(C)]
struct Storage<T, const FLAGS: usize> {
    r#type: *const [i32; bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

/// Connections begin with a copy of their listening socket's value.
const CLONED: usize = (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize;
/// Every socket has its own value, or none.
const OWN: usize = BPF_F_NO_PREALLOC as usize;

// SAFETY: the fields describe the map to the loader and are read by nobody here.
unsafe impl<T, const FLAGS: usize> Sync for Storage<T, FLAGS> {}

impl<T, const FLAGS: usize> Storage<T, FLAGS> {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }

    /// The socket's value, where it has one.
    #[inline(always)]
    fn of(&self, socket: NonNull<bpf_sock>) -> Option<&mut T> {
        let map = core::ptr::from_ref(self).cast_mut().cast();
        // SAFETY: the context gave the socket, which lives as long as the program runs; the kernel answers null or the
        // value of this map's type. Another CPU may write to it meanwhile: then one count of two is lost, no more.
        unsafe {
            bpf_sk_storage_get(map, socket.as_ptr().cast(), core::ptr::null_mut(), 0).cast::<T>().as_mut()
        }
    }
}

/// What is known of a connection; None for sockets that are not ours.
#[inline(always)]
pub fn connection(socket: NonNull<bpf_sock>) -> Option<&'static mut Connection> {
    CONNECTIONS.of(socket).filter(|connection| connection.layout == gateway_common::object::LAYOUT)
}

/// Whether the daemon has accepted a connection.
#[inline(always)]
pub fn accepted(socket: NonNull<bpf_sock>) -> bool {
    ACCEPTED.of(socket).is_some()
}

/// This CPU's memory of a front end found lately.
#[inline(always)]
pub fn recent(key: &FrontendKey) -> Option<&'static mut Recent> {
    // SAFETY: as for `counters`.
    RECENT.get_ptr_mut(Recent::index(key)).map(|recent| unsafe { &mut *recent })
}

/// This CPU's counts of a front end.
#[inline(always)]
pub fn counters(frontend: u32) -> Option<&'static mut Counters> {
    // SAFETY: the slot is this CPU's own, and programs on one CPU do not interrupt each other in the middle of a count.
    COUNTERS.get_ptr_mut(frontend).map(|counters| unsafe { &mut *counters })
}

/// This CPU's counts over all packets.
#[inline(always)]
pub fn totals() -> Option<&'static mut Totals> {
    // SAFETY: as for `counters`.
    TOTALS.get_ptr_mut(0).map(|totals| unsafe { &mut *totals })
}

/// An entry of a table that several CPUs write: a torn one costs a handshake's times or a source's pace.
#[inline(always)]
pub fn entry<T, const ENTRIES: usize>(
    table: &'static Array<T, ENTRIES>,
    index: u32,
) -> Option<&'static mut T> {
    // SAFETY: entries of arrays live as long as the map, and any bytes are a value of these types.
    table.get_ptr_mut(index).map(|entry| unsafe { &mut *entry })
}

/// Whether a source is on the deny list.
#[inline(always)]
pub fn denied(source: &Address) -> bool {
    match unmapped(source) {
        Some(v4) => DENY4.get(Prefix::new(32, v4).key()).is_some(),
        None => DENY6.get(Prefix::new(128, *source).key()).is_some(),
    }
}

/// Whether a source is on the allow list.
#[inline(always)]
pub fn allowed(source: &Address) -> bool {
    match unmapped(source) {
        Some(v4) => ALLOW4.get(Prefix::new(32, v4).key()).is_some(),
        None => ALLOW6.get(Prefix::new(128, *source).key()).is_some(),
    }
}

/// A key of the lists, placed so that the address begins at a multiple of eight: the stack may be written in words of
/// eight bytes, but only where they belong.
#[repr(C, align(8))]
struct Prefix<A> {
    before: u32,
    bits: u32,
    address: A,
}

impl<A> Prefix<A> {
    #[inline(always)]
    fn new(bits: u32, address: A) -> Prefix<A> {
        Prefix { before: 0, bits, address }
    }

    #[inline(always)]
    fn key(&self) -> &Key<A> {
        // SAFETY: the bits and the address behind them are the key, which is packed and needs no alignment.
        unsafe { &*core::ptr::from_ref(self).byte_add(size_of::<u32>()).cast() }
    }
}
