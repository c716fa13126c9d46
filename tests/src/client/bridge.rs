//! TLS for programs that speak without it: what comes in as plain TCP goes out within TLS, with a client's certificate.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Tls, block_on, spawn};

/// A bridge to one server; it takes nobody in any more once it is dropped.
pub struct Bridge {
    address: SocketAddr,
    accept: JoinHandle<()>,
}

impl Bridge {
    /// Opens one.
    ///
    /// # Panics
    /// When no socket is to be had.
    pub fn open(tls: Tls, server: SocketAddr) -> Self {
        let listener =
            block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let accept = spawn(async move {
            while let Ok((plain, _)) = listener.accept().await {
                // Either side may break off whenever it likes; the other one sees it.
                spawn(pass(plain, tls.clone(), server));
            }
        });
        Self { address, accept }
    }

    /// Where it is entered.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn pass(mut plain: TcpStream, tls: Tls, server: SocketAddr) -> io::Result<()> {
    plain.set_nodelay(true)?;
    let mut secret =
        tls.dial(server).await.map_err(|ended| io::Error::other(format!("no connection: {ended:?}")))?;
    copy_bidirectional(&mut plain, &mut secret).await.map(drop)
}
