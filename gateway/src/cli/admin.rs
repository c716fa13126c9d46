//! A client of a running gateway's admin server, for the commands that ask it something.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How long a gateway may take to answer: as long as it takes itself for a command, and a little.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);
/// How long it may take to be upgraded: as long as it lets a connection to its admin socket live, and a little.
pub(super) const UPGRADE_TIMEOUT: Duration = Duration::from_secs(305);
/// Size of an answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Where the gateway is asked.
#[derive(Debug, Default, Args)]
pub(super) struct Where {
    /// Admin socket of the gateway
    #[arg(long, value_name = "PATH", env = "YETT_ADMIN_SOCKET", default_value = "/run/yett/admin.sock")]
    admin_socket: PathBuf,
    /// Admin listener to ask instead; it takes no commands
    #[arg(long, value_name = "ADDRESS:PORT", env = "YETT_ADMIN")]
    admin: Option<String>,
}

impl Where {
    /// On a socket, whatever the environment says.
    pub(super) fn socket(path: &Path) -> Self {
        Self { admin_socket: path.to_owned(), admin: None }
    }

    /// Reads a page.
    pub(super) fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        let (status, body) = self.ask(Method::GET, path, ANSWER_TIMEOUT)?;
        if status != StatusCode::OK {
            bail!("the gateway answers {status}: {}", String::from_utf8_lossy(&body).trim_end());
        }
        Ok(body)
    }

    /// Gives a command.
    pub(super) fn post(&self, path: &str, limit: Duration) -> anyhow::Result<(StatusCode, Bytes)> {
        self.ask(Method::POST, path, limit)
    }

    fn ask(&self, method: Method, path: &str, limit: Duration) -> anyhow::Result<(StatusCode, Bytes)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asked = async {
            let answer = async {
                match self.admin.as_deref().filter(|address| *address != "off") {
                    Some(address) => self.ask_tcp(address, method, path).await,
                    None => ask_socket(&self.admin_socket, method, path).await,
                }
            };
            // Made within the runtime: its timer is the runtime's.
            timeout(limit, answer).await
        };
        runtime.block_on(asked).map_err(|_| anyhow!("the gateway did not answer in time"))?
    }

    async fn ask_tcp(
        &self,
        address: &str,
        method: Method,
        path: &str,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let address: SocketAddr =
            address.parse().with_context(|| format!("`{address}` is not ADDRESS:PORT"))?;
        let stream = TcpStream::connect(address).await.with_context(|| {
            format!("no gateway answers on {address} (is it running, with --admin {address}?)")
        })?;
        exchange(stream, &address.to_string(), method, path).await
    }
}

async fn ask_socket(socket: &Path, method: Method, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = UnixStream::connect(socket).await.with_context(|| {
        format!(
            "no gateway answers on {} (is it running? another socket is named with --admin-socket)",
            socket.display()
        )
    })?;
    exchange(stream, "localhost", method, path).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    method: Method,
    path: &str,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let request =
        Request::builder().method(method).uri(path).header("host", host).body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = std::pin::pin!(connection);
    let asked = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        anyhow::Ok((status, body.map_err(|error| anyhow!(error))?.to_bytes()))
    };
    let mut asked = std::pin::pin!(asked);
    // The connection moves the bytes; it may end before the answer has been taken in.
    let mut open = true;
    poll_fn(|context| {
        if open && connection.as_mut().poll(context).is_ready() {
            open = false;
        }
        asked.as_mut().poll(context)
    })
    .await
    .context("the gateway's answer broke off")
}
