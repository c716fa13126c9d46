//! Answers of backends: read the same however they come, and never where hyper's client refuses them or reads another
//! message.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::task::LocalSet;

use crate::upstream::h1::frame::{Decoder, Fault, Head, HeadReader, Limits, Step};

const LIMITS: Limits = Limits { head_bytes_max: 4096, fields_max: 16, interim_max: 2 };

/// An answer, and then the end of the connection. The least bit of the first byte: the answer is one to HEAD.
pub fn answers(input: &[u8]) {
    let (seed, answer) = super::split(input);
    let method = if seed & 1 == 1 { Method::HEAD } else { Method::GET };
    let whole = read(&method, LIMITS, [answer]);
    assert_eq!(read(&method, LIMITS, super::pieces(seed >> 1, answer)), whole, "it matters how it comes");
    let Ok(Message { head, body, trailers, surplus }) = whole else { return };
    assert!(answer.ends_with(&surplus));
    let theirs = by_hyper(method, answer);
    assert_eq!(theirs, Some((head.status, body, trailers)), "hyper's client reads another message, or none");
}

/// All that can be said of the answer to one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
    pub(crate) surplus: Vec<u8>,
}

/// Reads an answer that comes in these pieces, and then the end of the connection.
pub(crate) fn read<'a>(
    method: &Method,
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Message, Fault> {
    let mut pieces = pieces.into_iter();
    let mut buffer = BytesMut::new();
    let mut reader = HeadReader::new(method, None, limits);
    let head = loop {
        if let Some(head) = reader.read(&mut buffer)? {
            break head;
        }
        buffer.extend_from_slice(pieces.next().ok_or(Fault::Cut)?);
    };
    let mut decoder = Decoder::new(head.length, limits);
    let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
    loop {
        match decoder.decode(&mut buffer)? {
            Step::Data(data) => body.extend_from_slice(&data),
            Step::Trailers(fields) => trailers = fields,
            Step::End => break,
            Step::More => match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => decoder.closed()?,
            },
        }
    }
    assert!(decoder.is_ended());
    pieces.for_each(|piece| buffer.extend_from_slice(piece));
    Ok(Message { head, body, trailers, surplus: buffer.to_vec() })
}

/// What hyper's client makes of an answer: status, body and trailers, or nothing.
fn by_hyper(method: Method, answer: &[u8]) -> Option<(StatusCode, Vec<u8>, HeaderMap)> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let (ours, mut theirs) = duplex(answer.len() + 1024);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.expect("nothing is sent yet");
        tokio::task::spawn_local(connection);
        let answer = answer.to_vec();
        tokio::task::spawn_local(async move {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                if theirs.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            // A client may close on what it reads.
            let _ = theirs.write_all(&answer).await;
        });
        let request = Request::builder().method(method).uri("/").header("host", "h");
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let response = sender.send_request(request).await.ok()?;
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Some((status, Vec::new(), HeaderMap::new()));
        }
        let body = response.into_body().collect().await.ok()?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Some((status, body.to_bytes().to_vec(), trailers))
    })
}
