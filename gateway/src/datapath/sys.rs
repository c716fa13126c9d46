//! The few calls of bpf(2) that aya keeps to itself, and one socket option: links and pins as plain descriptors, so that
//! they can be left to another process.
//!
//! Numbers and layouts are those of linux/bpf.h, which only ever grows: a call gives as many bytes of `union bpf_attr` as
//! it fills in, and the kernel takes the rest for zero.
#![allow(
    unsafe_code,
    reason = "bpf(2) takes a union by pointer; no safe wrapper hands out descriptors of links"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;

/// `SO_ATTACH_REUSEPORT_EBPF` and `SO_DETACH_REUSEPORT_BPF` of asm-generic/socket.h.
const ATTACH_REUSEPORT: libc::c_int = 52;
const DETACH_REUSEPORT: libc::c_int = 68;

/// What a program is attached to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// XDP of an interface by its index, in the driver.
    XdpNative(u32),
    /// XDP of an interface by its index, over an skb.
    XdpSkb(u32),
    /// tcx ingress of an interface by its index, before every other program there.
    TcxIngress(u32),
    /// Socket operations of a control group.
    SockOps(BorrowedFd<'a>),
    /// Packets that reach sockets of a control group.
    CgroupIngress(BorrowedFd<'a>),
}

/// `link_create` of `union bpf_attr`, with the part that tcx has.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    expected_revision: u64,
}

/// `link_update` of `union bpf_attr`.
#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    former: u32,
}

/// What `BPF_OBJ_PIN` and `BPF_OBJ_GET` take.
#[repr(C)]
struct Object {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Attaches a program; it is detached when the last descriptor of the link is closed and no pin holds it.
pub(super) fn link_create(program: BorrowedFd<'_>, target: Target<'_>) -> io::Result<OwnedFd> {
    const CGROUP_INET_INGRESS: u32 = 0;
    const CGROUP_SOCK_OPS: u32 = 3;
    const XDP: u32 = 37;
    const TCX_INGRESS: u32 = 46;
    const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
    const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
    const BPF_F_BEFORE: u32 = 1 << 3;
    let (target, attach_type, flags) = match target {
        Target::XdpNative(interface) => (interface, XDP, XDP_FLAGS_DRV_MODE),
        Target::XdpSkb(interface) => (interface, XDP, XDP_FLAGS_SKB_MODE),
        Target::TcxIngress(interface) => (interface, TCX_INGRESS, BPF_F_BEFORE),
        Target::SockOps(cgroup) => (number(cgroup), CGROUP_SOCK_OPS, 0),
        Target::CgroupIngress(cgroup) => (number(cgroup), CGROUP_INET_INGRESS, 0),
    };
    let attributes =
        LinkCreate { program: number(program), target, attach_type, flags, ..LinkCreate::default() };
    descriptor(bpf(LINK_CREATE, &attributes)?)
}

/// Puts another program in the place of the one that a link attaches: no packet meets neither.
pub(super) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(LINK_UPDATE, &LinkUpdate { link: number(link), program: number(program), flags: 0, former: 0 })?;
    Ok(())
}

/// Gives a map, a program or a link a name in a BPF file system.
pub(super) fn pin(object: BorrowedFd<'_>, at: &Path) -> io::Result<()> {
    let path = CString::new(at.as_os_str().as_bytes())?;
    bpf(OBJ_PIN, &Object { path: path.as_ptr() as u64, descriptor: number(object), flags: 0 })?;
    Ok(())
}

/// What has this name in a BPF file system.
pub(super) fn pinned(at: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(at.as_os_str().as_bytes())?;
    descriptor(bpf(OBJ_GET, &Object { path: path.as_ptr() as u64, descriptor: 0, flags: 0 })?)
}

/// Lets a program choose among the sockets of a group; with None the kernel chooses.
pub(super) fn choose_by(socket: impl AsFd, program: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let (option, value) = match program {
        Some(program) => (ATTACH_REUSEPORT, program.as_raw_fd()),
        None => (DETACH_REUSEPORT, 0),
    };
    // SAFETY: the value is an int that outlives the call, and its size is given.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast::<libc::c_void>(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    // Descriptors are never negative.
    descriptor.as_raw_fd().cast_unsigned()
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are plain bytes without padding, readable for the size that is given, and everything that
    // they point to outlives the call. None of the commands above writes to them.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(outcome) }
}

fn descriptor(number: libc::c_long) -> io::Result<OwnedFd> {
    let number = i32::try_from(number).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for this process, and nobody else knows it. It sets close-on-exec itself.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
