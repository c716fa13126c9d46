//! The interfaces that front-end traffic comes in by, and what is to be known of one before a program is attached:
//! whether its packets begin with an Ethernet header, whether it is a physical card, and who has its XDP place.
//!
//! The kernel is asked over rtnetlink(7), which needs no privilege; sysfs alone would speak of another network namespace
//! where one was entered without mounting it anew.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// Drivers whose XDP is long proven. Elsewhere tcx sees the same packets.
const NATIVE_DRIVERS: [&str; 9] =
    ["bnxt_en", "ena", "gve", "i40e", "ice", "igc", "ixgbe", "mlx5_core", "sfc"];
/// An answer about one interface; its longest part is the table of virtual functions, which is not asked for.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Whether its packets begin with an Ethernet header.
    pub is_ethernet: bool,
    /// The XDP program that is attached to it.
    pub xdp: Option<XdpOwner>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpOwner {
    /// The program's id.
    pub id: u32,
    /// `native`, `skb` or `offloaded`.
    pub mode: &'static str,
}

impl std::fmt::Display for XdpOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "XDP program id {} ({})", self.id, self.mode)
    }
}

impl Interface {
    /// Asks the kernel.
    ///
    /// # Errors
    /// There is no such interface, or the kernel does not answer.
    pub fn named(name: &str) -> io::Result<Self> {
        // Without a protocol it is NETLINK_ROUTE.
        let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        let index = name_to_index(&netlink, name)?;
        send(&netlink, &question(index), SendFlags::empty())?;
        let mut answer = vec![0; ANSWER_BYTES_MAX];
        let (received, _) = recv(&netlink, &mut answer[..], RecvFlags::empty())?;
        let (is_ethernet, xdp) = parse(&answer[..received])
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "rtnetlink gives no interface"))?;
        Ok(Self { name: name.to_owned(), index, is_ethernet, xdp })
    }

    /// Whether it is a physical card with a driver whose XDP is proven.
    pub fn is_fit_for_native(&self) -> bool {
        let folder = Path::new("/sys/class/net").join(&self.name);
        driver(&folder).is_some_and(|driver| NATIVE_DRIVERS.contains(&driver.as_str()))
    }
}

/// The driver of a physical card, by the interface's folder in sysfs; None for virtual interfaces.
pub fn driver(folder: &Path) -> Option<String> {
    Some(std::fs::read_link(folder.join("device/driver")).ok()?.file_name()?.to_str()?.to_owned())
}

/// The interfaces that hold one of these addresses; of no addresses, one that a client elsewhere can use. Loopback alone
/// where there is nothing else.
///
/// # Errors
/// The system does not list its interfaces.
pub fn that_hold(addresses: &[IpAddr]) -> io::Result<BTreeSet<String>> {
    let all = if_addrs::get_if_addrs()?;
    let is_any = addresses.iter().all(IpAddr::is_unspecified);
    let wanted = |address: IpAddr| match address {
        address if !is_any => addresses.contains(&address),
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    let named = |wanted: &dyn Fn(IpAddr) -> bool| -> BTreeSet<String> {
        let holding = all.iter().filter(|interface| wanted(interface.ip()));
        holding.map(|interface| interface.name.clone()).collect()
    };
    let found = named(&wanted);
    Ok(if found.is_empty() && is_any { named(&|address| address.is_loopback()) } else { found })
}

/// RTM_GETLINK for one interface.
fn question(index: u32) -> [u8; 32] {
    const RTM_GETLINK: u16 = 18;
    const NLM_F_REQUEST: u16 = 1;
    let mut message = [0; 32];
    message[0..4].copy_from_slice(&32_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message[20..24].copy_from_slice(&index.to_ne_bytes());
    message
}

/// Whether the interface of an RTM_NEWLINK message has Ethernet headers, and its XDP program.
fn parse(message: &[u8]) -> Option<(bool, Option<XdpOwner>)> {
    const RTM_NEWLINK: u16 = 16;
    const IFLA_XDP: u16 = 43;
    const IFLA_XDP_ATTACHED: u16 = 2;
    const IFLA_XDP_PROG_ID: u16 = 4;
    const ARPHRD_ETHER: u16 = 1;
    const ARPHRD_LOOPBACK: u16 = 772;
    if two(message, 4)? != RTM_NEWLINK {
        return None;
    }
    let hardware = two(message, 18)?;
    let is_ethernet = matches!(hardware, ARPHRD_ETHER | ARPHRD_LOOPBACK);
    let mut owner = None;
    for (kind, value) in attributes(message.get(32..)?) {
        if kind == IFLA_XDP {
            let of = |wanted| attributes(value).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
            let mode = match of(IFLA_XDP_ATTACHED).and_then(|value| value.first()) {
                Some(1) => "native",
                Some(2) => "skb",
                Some(3) => "offloaded",
                Some(4) => "several",
                _ => continue,
            };
            let id = of(IFLA_XDP_PROG_ID).and_then(|value| value.first_chunk()).copied();
            owner = Some(XdpOwner { id: u32::from_ne_bytes(id.unwrap_or_default()), mode });
        }
    }
    Some((is_ethernet, owner))
}

fn two(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*message.get(at..)?.first_chunk()?))
}

/// The attributes of a message: kind and value, each padded to four bytes.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(two(rest, 0)?), two(rest, 2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        // The two upper bits say that the value is nested, and in which order its bytes are.
        Some((kind & 0x3fff, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_free() {
        let lo = Interface::named("lo").unwrap();
        assert_eq!((lo.name.as_str(), lo.is_ethernet, lo.xdp), ("lo", true, None));
        assert!(lo.index > 0 && !lo.is_fit_for_native());
        assert_eq!(Interface::named("no-such-thing").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(that_hold(&["127.0.0.1".parse().unwrap()]).unwrap(), BTreeSet::from(["lo".to_owned()]));
        assert!(that_hold(&["192.0.2.1".parse().unwrap()]).unwrap().is_empty());
        assert!(!that_hold(&[]).unwrap().is_empty());
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn the_owner_of_the_xdp_place_is_read_and_no_cut_of_a_message_panics() {
        let xdp = [attribute(2, &[1]), attribute(4, &622_u32.to_ne_bytes())].concat();
        let mut message = question(7).to_vec();
        message[4..6].copy_from_slice(&16_u16.to_ne_bytes());
        message[18..20].copy_from_slice(&1_u16.to_ne_bytes());
        message.extend(attribute(3, b"eth0\0"));
        message.extend(attribute(43 | 0x8000, &xdp));
        let (is_ethernet, owner) = parse(&message).unwrap();
        assert!(is_ethernet);
        assert_eq!(owner.unwrap().to_string(), "XDP program id 622 (native)");
        for length in 0..message.len() {
            parse(&message[..length]);
        }
        message[18..20].copy_from_slice(&65534_u16.to_ne_bytes());
        assert!(!parse(&message).unwrap().0, "a tunnel has no Ethernet headers");
    }
}
