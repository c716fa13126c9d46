//! The programs attached: on a veth in each of the ways there are, with real connections through them, whose sockets
//! know afterwards what the kernel saw.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use aya::maps::{Array, ReusePortSockArray, SkStorage};
use aya::programs::tc::TcAttachType;
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, SchedClassifier, SkReuseport, SockOps, Xdp, XdpMode,
};
use gateway_common::object::{CPUS_MAX, LAYOUT, map, program};
use gateway_common::parse::Opening;
use gateway_common::value::{Connection, Counters, EventKind, Frontend, Mode, Worker};
use gateway_tests::{tools, wait};
use socket2::{Domain, SockRef, Socket, Type};

use crate::kernel::{Kernel, Switches, usable};
use crate::net::{CLIENT4, Net, SERVER_LINK, SERVER4, SERVER6, inside};
use crate::rules::events;

/// The ways to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attach {
    Tcx,
    XdpSkb,
    XdpNative,
}

/// The front ends, by family, and the port of both.
const FRONTEND4: u32 = 1;
const FRONTEND6: u32 = 2;
const PORT: u16 = 4433;
const WORKERS: u32 = 2;

/// The beginning of a ClientHello.
const HELLO: [u8; 11] = [0x16, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3];

/// A server whose listening sockets are known to the programs: two for each family.
struct Server {
    kernel: Kernel,
    listeners: Vec<(u32, TcpListener)>,
}

impl Server {
    fn new(net: &Net, attach: Attach) -> Server {
        let mut kernel = Kernel::load(&Switches { event_mask: Some(0), ..Switches::default() });
        inside(&net.server, || kernel.attach_to(SERVER_LINK, attach));
        let cgroup = File::open(cgroup()).unwrap();
        let track = kernel.program::<SockOps>(program::TRACK);
        track.attach(&cgroup, CgroupAttachMode::Single).unwrap();
        let wire = kernel.program::<CgroupSkb>(program::WIRE);
        wire.attach(&cgroup, CgroupSkbAttachType::Ingress, CgroupAttachMode::Single).unwrap();

        let mut server = Server { kernel, listeners: Vec::new() };
        for (address, id) in [(SERVER4, FRONTEND4), (SERVER6, FRONTEND6)] {
            server.listen(net, address.parse().unwrap(), id);
        }
        server.workers([Worker::Serving; WORKERS as usize]);
        let mut cpus: Array<_, u32> = server.kernel.map(map::CPUS);
        (0..CPUS_MAX).for_each(|cpu| cpus.set(cpu, cpu % WORKERS + 1, 0).unwrap());
        server.kernel.alive(|control| control.workers = WORKERS);
        server
    }

    fn listen(&mut self, net: &Net, address: IpAddr, id: u32) {
        let first_socket = id * WORKERS;
        self.kernel.frontend(address, PORT, Frontend { id, first_socket });
        for worker in 0..WORKERS {
            let listener = inside(&net.server, || listener(SocketAddr::new(address, PORT)));
            self.kernel.program::<SkReuseport>(program::PICK).attach(&listener).unwrap();
            let template = Connection { layout: LAYOUT, frontend: id, ..Connection::default() };
            let mut connections: SkStorage<_, Connection> = self.kernel.map(map::CONNECTIONS);
            connections.insert(&listener, template, 0).unwrap();
            let mut sockets: ReusePortSockArray<_> = self.kernel.map(map::SOCKETS);
            sockets.set(first_socket + worker, &listener, 0).unwrap();
            self.listeners.push((worker, listener));
        }
    }

    fn workers(&mut self, states: [Worker; WORKERS as usize]) {
        let mut workers: Array<_, u32> = self.kernel.map(map::WORKERS);
        for (worker, state) in (0..).zip(states) {
            workers.set(worker, state as u32, 0).unwrap();
        }
    }

    /// Accepts a connection, with the worker whose listening socket it came to.
    fn accept(&self) -> (u32, TcpStream) {
        wait::until("a connection", wait::SOON, || {
            self.listeners.iter().find_map(|(worker, listener)| {
                let (stream, _) = listener.accept().ok()?;
                stream.set_nonblocking(false).unwrap();
                Some((*worker, stream))
            })
        })
    }

    fn connection(&mut self, socket: &TcpStream) -> Connection {
        let connections: SkStorage<_, Connection> = self.kernel.map(map::CONNECTIONS);
        connections.get(socket, 0).unwrap()
    }

    fn mark_accepted(&mut self, socket: &TcpStream) {
        let mut accepted: SkStorage<_, u64> = self.kernel.map(map::ACCEPTED);
        accepted.insert(socket, 1, 0).unwrap();
    }
}

impl Kernel {
    fn attach_to(&mut self, link: &str, attach: Attach) {
        match attach {
            Attach::Tcx => {
                let tc = self.program::<SchedClassifier>(program::INGRESS_TC);
                tc.attach(link, TcAttachType::Ingress).map(drop)
            }
            Attach::XdpSkb => self.program::<Xdp>(program::INGRESS_XDP).attach(link, XdpMode::Skb).map(drop),
            Attach::XdpNative => {
                self.program::<Xdp>(program::INGRESS_XDP).attach(link, XdpMode::Driver).map(drop)
            }
        }
        .unwrap_or_else(|error| panic!("{attach:?}: {error:?}"));
    }
}

/// The test process's own control group of the second version, wherever it is mounted.
fn cgroup() -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let mount = mount.and_then(|line| line.split(' ').nth(1)).expect("cgroup2 is mounted nowhere");
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    format!("{mount}{}", own.lines().find_map(|line| line.strip_prefix("0::")).unwrap())
}

fn listener(on: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::for_address(on), Type::STREAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&on.into()).unwrap();
    socket.listen(64).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

fn connect(net: &Net, to: &str) -> TcpStream {
    let to = SocketAddr::new(to.parse().unwrap(), PORT);
    inside(&net.client, || TcpStream::connect_timeout(&to, wait::SOON).unwrap())
}

fn netns(test: &str) -> Option<Net> {
    (usable(test) && tools::need("ip", test).is_some()).then(Net::new)
}

#[test]
fn connections_know_what_the_kernel_saw_however_the_programs_are_attached() {
    let test = "connections_know_what_the_kernel_saw_however_the_programs_are_attached";
    let Some(net) = netns(test) else { return };
    for attach in [Attach::Tcx, Attach::XdpSkb, Attach::XdpNative] {
        let mut server = Server::new(&net, attach);
        for (address, frontend) in [(SERVER4, FRONTEND4), (SERVER6, FRONTEND6)] {
            for _ in 0..ROUNDS {
                known(&net, &mut server, attach, address, frontend);
            }
            let counts = server.kernel.counters(frontend);
            let expected = Counters {
                syns: ROUNDS,
                established: ROUNDS,
                picked_cpu: ROUNDS,
                packets: counts.packets,
                bytes: counts.bytes,
                ..Counters::default()
            };
            assert_eq!(counts, expected, "{attach:?} {address}");
            // SYN, acknowledgement, data, the end: four each, apart from acknowledgements that were saved.
            assert!((ROUNDS * 3..ROUNDS * 8).contains(&counts.packets), "{attach:?}: {counts:?}");
        }
    }
}

/// Connections of each family and way to attach.
const ROUNDS: u64 = 20;

/// One connection, and what its socket knows.
fn known(net: &Net, server: &mut Server, attach: Attach, address: &str, frontend: u32) {
    let mut client = connect(net, address);
    client.write_all(&HELLO).unwrap();
    let (worker, mut stream) = server.accept();
    server.mark_accepted(&stream);
    stream.read_exact(&mut [0; HELLO.len()]).unwrap();
    let seen = server.connection(&stream);
    let row = format!("{attach:?} {address}: {seen:?}");
    assert_eq!((seen.layout, seen.frontend, seen.syn_tries), (LAYOUT, frontend, 1), "{row}");
    assert!(0 < seen.syn_ns && seen.syn_ns <= seen.established_ns, "{row}");
    assert!(seen.established_ns <= seen.first_payload_ns, "{row}");
    assert_eq!(Opening::of(seen.opening), Opening::ClientHello, "{row}");
    // The hello, and sometimes an acknowledgement before it; 52 or 72 bytes of headers and options.
    assert!((1..=2).contains(&seen.packets) && seen.zero_windows == 0, "{row}");
    assert!((63..200).contains(&seen.bytes), "{row}");
    assert!(worker < WORKERS, "{row}");
    drop(client);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(server.kernel.counters(frontend).unaccepted, 0, "{row}");
}

#[test]
fn connections_that_nobody_accepted_are_reported() {
    let Some(net) = netns("connections_that_nobody_accepted_are_reported") else { return };
    let mut server = Server::new(&net, Attach::Tcx);
    let client = connect(&net, SERVER4);
    let local = client.local_addr().unwrap();
    // A reset instead of an end: the kernel forgets the connection at once.
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    wait::soon("the connection's end", || server.kernel.counters(FRONTEND4).unaccepted == 1);
    let [event] = events(&mut server.kernel)[..] else { panic!("not one event") };
    assert_eq!(EventKind::of(event.kind), Some(EventKind::Unaccepted));
    assert_eq!((event.frontend, event.syn_tries, event.reason), (FRONTEND4, 1, 0));
    assert_eq!(SocketAddr::new(gateway_common::key::ip(event.source), event.source_port), local);
    assert!(event.syn_ns != 0 && event.syn_ns <= event.established_ns && event.established_ns <= event.at_ns);
}

#[test]
fn a_denied_source_does_not_connect_where_the_rule_is_enforced() {
    let Some(net) = netns("a_denied_source_does_not_connect_where_the_rule_is_enforced") else { return };
    for attach in [Attach::Tcx, Attach::XdpSkb, Attach::XdpNative] {
        let mut server = Server::new(&net, attach);
        server.kernel.list((map::DENY4, map::DENY6), &format!("{CLIENT4}/32"));
        let to = SocketAddr::new(SERVER4.parse().unwrap(), PORT);
        let tried = |limit| inside(&net.client, || TcpStream::connect_timeout(&to, limit));
        server.kernel.alive(|control| (control.workers, control.deny) = (WORKERS, Mode::Observe as u8));
        assert!(tried(wait::SOON).is_ok(), "{attach:?}: observed");
        assert_eq!(server.kernel.counters(FRONTEND4).observed[0], 1, "{attach:?}");
        server.kernel.alive(|control| (control.workers, control.deny) = (WORKERS, Mode::Enforce as u8));
        assert!(tried(Duration::from_millis(300)).is_err(), "{attach:?}: enforced");
        assert!(server.kernel.counters(FRONTEND4).dropped[0] >= 1, "{attach:?}");
        assert_eq!(server.kernel.counters(FRONTEND4).syns, server.kernel.counters(FRONTEND4).dropped[0] + 1);
        drop(connect(&net, SERVER6));
    }
}

#[test]
fn a_worker_that_drains_gets_no_connections_and_its_waiting_ones_move() {
    let Some(net) = netns("a_worker_that_drains_gets_no_connections_and_its_waiting_ones_move") else {
        return;
    };
    let mut server = Server::new(&net, Attach::Tcx);
    server.workers([Worker::Serving, Worker::Draining]);
    let waiting: Vec<_> = (0..8).map(|_| connect(&net, SERVER4)).collect();
    let counts = server.kernel.counters(FRONTEND4);
    assert_eq!(counts.picked_cpu + counts.picked_hash, 8, "{counts:?}");
    // The other way round, and the socket that they wait on closes.
    server.workers([Worker::Draining, Worker::Serving]);
    server.listeners.retain(|(worker, listener)| *worker != 0 || listener.local_addr().unwrap().is_ipv6());
    for client in &waiting {
        let (worker, stream) = server.accept();
        assert_eq!(worker, 1);
        server.mark_accepted(&stream);
        assert_eq!(server.connection(&stream).syn_tries, 1, "its storage moves with it");
        assert!(client.peer_addr().is_ok());
    }
    let counts = server.kernel.counters(FRONTEND4);
    assert_eq!((counts.migrated, counts.unaccepted, counts.picked_kernel), (8, 0, 0), "{counts:?}");
}
