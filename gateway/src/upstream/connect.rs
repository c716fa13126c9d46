//! A TCP connection to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::error::UpstreamError;
use super::names::Name;
use crate::model::Endpoint;
use crate::model::backend::EndpointHost;
use crate::telemetry::BackendMetrics;

/// How long one of a name's addresses is tried alone before the next one is tried as well (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Where an endpoint is.
pub(super) enum Host {
    /// At an address.
    Address(SocketAddr),
    /// Where its name says.
    Name(Rc<Name>),
}

impl Host {
    /// An endpoint's.
    pub(super) fn of(endpoint: &Endpoint, metrics: &Arc<BackendMetrics>) -> Self {
        match &endpoint.host {
            EndpointHost::Address(address) => Self::Address((*address, endpoint.port).into()),
            EndpointHost::Name(name) => {
                Self::Name(Name::new(Arc::clone(name), endpoint.port, Arc::clone(metrics)))
            }
        }
    }
}

/// Connects within `limit`, a name's lookup included; of a name's addresses the first that answers is taken.
pub(super) async fn connect(
    host: &Host,
    label: &Arc<str>,
    limit: Duration,
) -> Result<TcpStream, UpstreamError> {
    let not_connected = |cause| UpstreamError::Connect { endpoint: Arc::clone(label), cause };
    let dial = async {
        let stream = match host {
            Host::Address(address) => TcpStream::connect(address).await.map_err(not_connected)?,
            Host::Name(name) => by_name(name, label).await?,
        };
        // Heads and small bodies go out in one write; waiting for more would only add a delay.
        stream.set_nodelay(true).map_err(not_connected)?;
        Ok(stream)
    };
    let connected = timeout(limit, dial).await;
    connected.unwrap_or_else(|_| {
        if let Host::Name(name) = host {
            name.doubt();
        }
        Err(UpstreamError::ConnectTimeout { endpoint: Arc::clone(label), timeout: limit })
    })
}

async fn by_name(name: &Rc<Name>, label: &Arc<str>) -> Result<TcpStream, UpstreamError> {
    let unresolved = |why| UpstreamError::Unresolved { endpoint: Arc::clone(label), why };
    let addresses = name.addresses().await.map_err(unresolved)?;
    let cause = match first_of(addresses.clone()).await {
        Ok(stream) => return Ok(stream),
        Err(cause) => cause,
    };
    // What was known may be out of date.
    name.doubt();
    let again = name.addresses().await.map_err(unresolved)?;
    let others: Vec<_> = again.into_iter().filter(|address| !addresses.contains(address)).collect();
    let connected = if others.is_empty() { Err(cause) } else { first_of(others).await };
    connected.map_err(|cause| UpstreamError::Connect { endpoint: Arc::clone(label), cause })
}

/// Connects to the first of the addresses that answers. The next one is tried when one has failed, or has had its time.
async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let (mut left, mut tried) = (addresses.into_iter(), JoinSet::new());
    loop {
        if let Some(address) = left.next() {
            tried.spawn_local(TcpStream::connect(address));
        }
        tokio::select! {
            ended = tried.join_next() => match ended {
                None => return Err(failure),
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(error)) => failure = error.into(),
            },
            () = sleep(HEAD_START), if left.len() > 0 => {}
        }
    }
}
