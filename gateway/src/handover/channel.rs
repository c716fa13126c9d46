//! The socket between the two: packets of JSON, with descriptors beside them (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::{Facts, HANDOVER_DESCRIPTORS_MAX, HANDOVER_VERSION, Item, Kind};

/// Size of a packet.
const PACKET_BYTES_MAX: usize = 64 << 10;
/// Descriptors of one packet; the kernel takes 253.
const PACKET_DESCRIPTORS_MAX: usize = 128;
/// What may be on its way: everything that is left waits here until the successor runs. The kernel caps it at
/// `net.core.wmem_max`, and counts twice what it takes.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Something of a handover that did not work.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The system failed.
    #[error("cannot {doing}: {source}")]
    System {
        /// What was attempted.
        doing: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// More than can be left.
    #[error("{0} descriptors are more than {HANDOVER_DESCRIPTORS_MAX}")]
    TooMany(usize),
    /// The other end said something that is not understood.
    #[error("cannot read what the other process says: {0}")]
    Unreadable(String),
    /// The other end is of a version to come.
    #[error("the other process hands over by version {0}, this one by {HANDOVER_VERSION}")]
    Version(u32),
    /// The other end has gone.
    #[error("the other process has gone")]
    Gone,
    /// The other end is not one of ours.
    #[error("the other process belongs to another user")]
    Stranger,
}

/// One end. To the runtime one unix socket is like another: that this one keeps packets apart is known here alone.
#[derive(Debug)]
pub struct Channel(UnixStream);

/// One packet of an offer.
#[derive(Serialize, Deserialize)]
struct Offer {
    version: u32,
    #[serde(flatten)]
    facts: Facts,
    items: Vec<Label>,
    /// Whether there is another packet.
    more: bool,
}

/// The descriptor of the same place in the packet.
#[derive(Serialize, Deserialize)]
struct Label {
    kind: Kind,
    name: String,
}

impl Channel {
    /// Two ends: one for this process, one for its successor to inherit. To be called within a runtime.
    ///
    /// # Errors
    /// The system has no sockets to give.
    pub fn pair() -> Result<(Self, OwnedFd), HandoverError> {
        let system = |source: io::Error| HandoverError::System { doing: "make a pair of sockets", source };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (ours, theirs) = pair.map_err(|error| system(error.into()))?;
        // Where the system gives less it has to do.
        let _ = set_socket_send_buffer_size(&ours, SEND_BUFFER_BYTES);
        Ok((Self::over(ours).map_err(system)?, theirs))
    }

    /// An end that was inherited; non-blocking.
    pub(super) fn over(socket: OwnedFd) -> io::Result<Self> {
        UnixStream::from_std(socket.into()).map(Self)
    }

    /// Sends everything that is left, at once: nothing has to read yet.
    ///
    /// # Errors
    /// It does not fit, or the system failed.
    pub fn offer(&self, facts: &Facts, items: &[Item]) -> Result<(), HandoverError> {
        if items.len() > HANDOVER_DESCRIPTORS_MAX {
            return Err(HandoverError::TooMany(items.len()));
        }
        let mut packets: Vec<&[Item]> = items.chunks(PACKET_DESCRIPTORS_MAX).collect();
        if packets.is_empty() {
            packets.push(&[]);
        }
        let last = packets.len() - 1;
        for (index, items) in packets.into_iter().enumerate() {
            let label = |item: &Item| Label { kind: item.kind, name: item.name.clone() };
            let labels = items.iter().map(label).collect();
            let facts = facts.clone();
            let offer = Offer { version: HANDOVER_VERSION, facts, items: labels, more: index < last };
            let descriptors: Vec<BorrowedFd<'_>> = items.iter().map(|item| item.fd.as_fd()).collect();
            send_with(&self.0, &packet(&offer)?, &descriptors)
                .map_err(|source| HandoverError::System { doing: "pass descriptors on", source })?;
        }
        Ok(())
    }

    /// Receives everything that was left.
    ///
    /// # Errors
    /// The other end has gone before the last of it, or is not understood.
    pub async fn take(&self) -> Result<(Facts, Vec<Item>), HandoverError> {
        let mut taken = Vec::new();
        loop {
            let (bytes, descriptors) = self.receive().await?.ok_or(HandoverError::Gone)?;
            // The version first: nothing else of an offer need be as it is here.
            let Version { version } = read(&bytes)?;
            if version > HANDOVER_VERSION {
                return Err(HandoverError::Version(version));
            }
            let offer: Offer = read(&bytes)?;
            if offer.items.len() != descriptors.len() {
                let (named, came) = (offer.items.len(), descriptors.len());
                return Err(HandoverError::Unreadable(format!("{named} descriptors named, {came} came")));
            }
            let items = offer.items.into_iter().zip(descriptors);
            taken.extend(items.map(|(Label { kind, name }, fd)| Item { kind, name, fd }));
            if taken.len() > HANDOVER_DESCRIPTORS_MAX {
                return Err(HandoverError::TooMany(taken.len()));
            }
            if !offer.more {
                return Ok((offer.facts, taken));
            }
        }
    }

    /// Says something. It has room for that, so it does not wait.
    ///
    /// # Errors
    /// The other end has gone.
    pub fn tell(&self, message: &impl Serialize) -> Result<(), HandoverError> {
        let doing = "tell the other process";
        send_with(&self.0, &packet(message)?, &[]).map_err(|source| HandoverError::System { doing, source })
    }

    /// Hears what is said next.
    ///
    /// # Errors
    /// The other end has gone, or is not understood.
    pub async fn hear<T: DeserializeOwned>(&self) -> Result<T, HandoverError> {
        let (bytes, _) = self.receive().await?.ok_or(HandoverError::Gone)?;
        read(&bytes)
    }

    /// The next packet; `None` where the other end has closed.
    async fn receive(&self) -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>, HandoverError> {
        let received = self.0.async_io(Interest::READABLE, || receive(&self.0)).await;
        match received {
            Ok((bytes, _)) if bytes.is_empty() => Ok(None),
            Ok(received) => Ok(Some(received)),
            // Whoever dies with something unread resets the connection.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(source) => Err(HandoverError::System { doing: "hear the other process", source }),
        }
    }
}

/// The one member that stays where it is in every version.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn packet(message: &impl Serialize) -> Result<Vec<u8>, HandoverError> {
    let unfit = |words: String| HandoverError::Unreadable(words);
    let bytes = serde_json::to_vec(message).map_err(|error| unfit(error.to_string()))?;
    if bytes.len() > PACKET_BYTES_MAX {
        return Err(unfit(format!("a message of {} bytes is too long", bytes.len())));
    }
    Ok(bytes)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, HandoverError> {
    serde_json::from_slice(bytes).map_err(|error| HandoverError::Unreadable(error.to_string()))
}

/// Sends a datagram or packet with descriptors beside it, without waiting.
///
/// # Errors
/// What the system says; `WouldBlock` where there is no room.
pub fn send_with(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_DESCRIPTORS_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, flags)?;
    Ok(())
}

fn receive(socket: impl AsFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PACKET_DESCRIPTORS_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; PACKET_BYTES_MAX];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut beside, flags)?;
    bytes.truncate(received.bytes);
    let mut descriptors = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message was cut short"));
    }
    Ok((bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::handover::{Verdict, Word};

    fn facts() -> Facts {
        Facts { process: 7, upgrades: BTreeMap::from([("ok".to_owned(), 3)]), object: None }
    }

    #[tokio::test]
    async fn what_was_left_arrives_after_its_sender_has_gone() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"left").unwrap();
        let mut items = vec![Item { kind: Kind::Tickets, name: "tickets".to_owned(), fd: file.into() }];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        items.extend((0..300).map(|index| Item {
            kind: Kind::Listener,
            name: format!("{address}/{index}"),
            fd: listener.try_clone().unwrap().into(),
        }));
        ours.offer(&facts(), &items).unwrap();
        drop((ours, items, listener));
        let client = std::net::TcpStream::connect(address).expect("the socket on its way listens");
        let theirs = Channel::over(theirs).unwrap();
        let (received, mut items) = theirs.take().await.unwrap();
        assert_eq!((received, items.len()), (facts(), 301));
        let last = items.pop().unwrap();
        assert_eq!((last.kind, last.name), (Kind::Listener, format!("{address}/299")));
        let listener = TcpListener::from(last.fd);
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        let mut file = File::from(items.swap_remove(0).fd);
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "left");
        assert!(matches!(theirs.hear::<Word>().await, Err(HandoverError::Gone)));
        assert!(theirs.tell(&Verdict::Failed { words: String::new() }).is_err(), "nobody hears");
    }

    #[tokio::test]
    async fn both_speak() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::over(theirs).unwrap();
        ours.offer(&facts(), &[]).unwrap();
        assert!(theirs.take().await.unwrap().1.is_empty());
        let ready = Verdict::Ready { process: 8, generation: 1, left: vec!["127.0.0.1:80".to_owned()] };
        theirs.tell(&ready).unwrap();
        assert_eq!(ours.hear::<Verdict>().await.unwrap(), ready);
        ours.tell(&Word::Relieved).unwrap();
        assert_eq!(theirs.hear::<Word>().await.unwrap(), Word::Relieved);
    }

    #[tokio::test]
    async fn what_later_versions_may_say() {
        for (description, text, expected) in [
            (
                "a kind to come",
                r#"{"version":1,"process":1,"items":[{"kind":"moon","name":"x"}],"more":false}"#,
                Ok(()),
            ),
            ("a member to come", r#"{"version":1,"process":1,"items":[],"more":false,"moon":1}"#, Ok(())),
            ("a version to come", r#"{"version":2}"#, Err("version 2")),
            ("no offer", r#"{"version":1}"#, Err("cannot read")),
            ("no JSON", "hello", Err("cannot read")),
            (
                "a descriptor too few",
                r#"{"version":1,"process":1,"items":[],"more":false}"#,
                Err("0 descriptors named"),
            ),
        ] {
            let (ours, theirs) = Channel::pair().unwrap();
            let theirs = Channel::over(theirs).unwrap();
            let file = tempfile::tempfile().unwrap();
            let beside = text.contains("moon\",\"name") || description.contains("too few");
            let descriptors: &[BorrowedFd<'_>] = if beside { &[file.as_fd()] } else { &[] };
            send_with(&ours.0, text.as_bytes(), descriptors).unwrap();
            match (theirs.take().await, expected) {
                (Ok((_, items)), Ok(())) => {
                    assert!(items.iter().all(|item| item.kind == Kind::Unknown), "{description}");
                }
                (Err(error), Err(words)) => {
                    assert!(error.to_string().contains(words), "{description}: {error}");
                }
                (other, _) => panic!("{description}: {other:?}"),
            }
        }
    }
}
