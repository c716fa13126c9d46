//! Two network namespaces with a veth pair between them, and code that runs inside of one.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use gateway_tests::tools::run;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The server's interface in its namespace.
pub(crate) const SERVER_LINK: &str = "v0";
/// The server's addresses and the client's.
pub(crate) const SERVER4: &str = "10.78.0.1";
pub(crate) const SERVER6: &str = "fd00:78::1";
pub(crate) const CLIENT4: &str = "10.78.0.2";

/// The namespaces; gone with the value.
pub(crate) struct Net {
    pub(crate) server: String,
    pub(crate) client: String,
}

impl Net {
    /// Makes them, with addresses of both families.
    pub(crate) fn new() -> Net {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("yett-dp-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let net = Net { server: format!("{name}-s"), client: format!("{name}-c") };
        let (server, client) = (&net.server, &net.client);
        for command in [
            format!("netns add {server}"),
            format!("netns add {client}"),
            format!("link add v0 netns {server} type veth peer name v1 netns {client}"),
            format!("-n {server} addr add {SERVER4}/24 dev v0"),
            format!("-n {client} addr add {CLIENT4}/24 dev v1"),
            format!("-n {server} addr add {SERVER6}/64 dev v0 nodad"),
            format!("-n {client} addr add fd00:78::2/64 dev v1 nodad"),
            format!("-n {server} link set v0 up"),
            format!("-n {client} link set v1 up"),
        ] {
            run(Command::new("ip").args(command.split(' ')));
        }
        net
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// Runs `work` on a thread inside of a namespace. Sockets made there stay there, wherever they are used afterwards.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = File::open(format!("/var/run/netns/{namespace}")).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
