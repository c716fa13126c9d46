//! A TCP connection to an endpoint.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::error::UpstreamError;
use crate::model::Endpoint;
use crate::model::backend::EndpointHost;

/// Connects within `limit`; of a name's addresses the first that answers is taken.
pub(super) async fn connect(
    endpoint: &Endpoint,
    label: &Arc<str>,
    limit: Duration,
) -> Result<TcpStream, UpstreamError> {
    match timeout(limit, dial(endpoint)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(cause)) => Err(UpstreamError::Connect { endpoint: Arc::clone(label), cause }),
        Err(_) => Err(UpstreamError::ConnectTimeout { endpoint: Arc::clone(label), timeout: limit }),
    }
}

async fn dial(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let stream = match &endpoint.host {
        EndpointHost::Address(address) => TcpStream::connect((*address, endpoint.port)).await?,
        EndpointHost::Name(name) => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            let mut connected = None;
            for address in lookup_host((&**name, endpoint.port)).await? {
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        connected = Some(stream);
                        break;
                    }
                    Err(error) => last = error,
                }
            }
            connected.ok_or(last)?
        }
    };
    // Heads and small bodies go out in one write; waiting for more would only add a delay.
    stream.set_nodelay(true)?;
    Ok(stream)
}
