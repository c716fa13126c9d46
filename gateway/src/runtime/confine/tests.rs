//! Each test confines a thread of its own, which ends with it.
#![allow(unsafe_code, reason = "system calls by number, with nothing that they could read or write")]

use std::{io, thread};

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};

use super::filter::{BPF_REFUSED, REFUSED, is_installed};
use super::{Keep, apart, process};

/// Calls with arguments that no call takes; gives what it says to that.
fn call(number: libc::c_long, first: libc::c_long) -> Option<i32> {
    // SAFETY: The last page of the address space is never mapped, -1 is no descriptor and no set of flags.
    let result = unsafe { libc::syscall(number, first, -1_isize, 0, -1_isize, -1_isize, -1_isize) };
    (result < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap_or_default())
}

fn confined<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(test).join().unwrap())
}

#[test]
fn calls_are_refused_and_nothing_is_killed() {
    confined(|| {
        assert!(!is_installed());
        let loaded = call(libc::SYS_bpf, 0);
        process(Keep::Bind).unwrap();
        assert!(is_installed());
        for number in REFUSED {
            assert_eq!(call(*number, -1), Some(libc::EPERM), "system call {number}");
        }
        for (name, command) in BPF_REFUSED {
            assert_eq!(call(libc::SYS_bpf, i64::from(*command)), Some(libc::EPERM), "BPF_{name}");
        }
        // By their numbers in linux/bpf.h. Here the kernel itself answers, and to it the arguments are no good.
        for (name, command) in
            [("MAP_LOOKUP_ELEM", 1), ("MAP_UPDATE_ELEM", 2), ("OBJ_PIN", 6), ("OBJ_GET", 7)]
        {
            assert_ne!(call(libc::SYS_bpf, command), Some(libc::EPERM), "BPF_{name}");
        }
        if geteuid().is_root() {
            assert_ne!(loaded, Some(libc::EPERM), "it is the filter that says so");
        }
        // Anybody may still look for other processes, and is told that there is none.
        let nobody = rustix::process::Pid::from_raw(super::filter::MARK - 1).unwrap();
        assert_eq!(rustix::process::test_kill_process(nobody), Err(rustix::io::Errno::SRCH));
    });
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_other_numbers_of_a_call_are_refused_too() {
    confined(|| {
        process(Keep::Bind).unwrap();
        for number in [libc::SYS_bpf, libc::SYS_unshare, 521, 539] {
            assert_eq!(call(number | 0x4000_0000, 0), Some(libc::EPERM), "x32 {number}");
        }
    });
}

#[test]
fn capabilities_go() {
    confined(|| {
        let all = capabilities(None).unwrap().permitted;
        for (description, keep, expected) in [
            ("two", Keep::BindAndAddresses, CapabilitySet::NET_BIND_SERVICE | CapabilitySet::NET_ADMIN),
            ("one", Keep::Bind, CapabilitySet::NET_BIND_SERVICE),
        ] {
            process(keep).unwrap();
            let now = capabilities(None).unwrap();
            let sets = [now.permitted, now.effective, now.inheritable];
            assert_eq!(sets, [all & expected; 3], "{description}");
        }
        let within = apart(|| {
            let started = thread::spawn(|| capabilities(None).unwrap()).join().unwrap();
            [capabilities(None).unwrap(), started]
        });
        for now in within.unwrap() {
            let sets = [now.permitted, now.effective, now.inheritable];
            assert_eq!(sets, [CapabilitySet::empty(); 3]);
        }
        assert_eq!(
            capabilities(None).unwrap().permitted,
            all & CapabilitySet::NET_BIND_SERVICE,
            "its own are still there"
        );
    });
}
