//! Tables of answers as bytes, and what holds for all bytes.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request};
use proptest::prelude::*;

use super::body::{CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};
use super::{Fault, HeadReader, Length, Limits, request};
use crate::fuzzing::{self, Message, read_answer};

const LIMITS: Limits = Limits { head_bytes_max: 512, fields_max: 4, interim_max: 2 };

fn read<'a>(method: &Method, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Message, Fault> {
    read_answer(method, LIMITS, pieces)
}

fn whole(answer: &str) -> Result<Message, Fault> {
    read(&Method::GET, [answer.as_bytes()])
}

#[test]
fn answers_are_read() {
    for (description, method, answer, length, keeps, body) in [
        ("a length", "GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab", Length::Exact(2), true, "ab"),
        ("no phrase", "GET", "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", Length::Exact(0), true, ""),
        ("an empty phrase", "GET", "HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n", Length::Exact(0), true, ""),
        (
            "chunks",
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nab\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
            Length::Chunked,
            true,
            "ab0123456789",
        ),
        ("until the end", "GET", "HTTP/1.1 200 OK\r\n\r\nab", Length::UntilClose, false, "ab"),
        ("HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", Length::Exact(1), false, "a"),
        (
            "the last of a connection",
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: x, Close\r\n\r\na",
            Length::Exact(1),
            false,
            "a",
        ),
        ("to HEAD", "HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Length::None, true, ""),
        ("to HEAD", "HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", Length::None, true, ""),
        ("to HEAD", "HEAD", "HTTP/1.1 200 OK\r\n\r\n", Length::None, true, ""),
        ("204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", Length::None, true, ""),
        ("204 with nothing", "GET", "HTTP/1.1 204 x\r\ncontent-length: 0\r\n\r\n", Length::None, true, ""),
        ("304", "GET", "HTTP/1.1 304 x\r\ncontent-length: 7\r\n\r\n", Length::None, true, ""),
        (
            "behind interim answers",
            "GET",
            "HTTP/1.1 103 x\r\nlink: </>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n",
            Length::Exact(0),
            true,
            "",
        ),
    ] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let message = read(&method, [answer.as_bytes()]);
        let message = message.unwrap_or_else(|fault| panic!("{description}: {fault}"));
        let found = (message.head.length, message.head.keeps, &*message.body, &*message.surplus);
        assert_eq!(found, (length, keeps, body.as_bytes(), &b""[..]), "{description}: {answer:?}");
    }
}

#[test]
fn values_are_trimmed_and_slices() {
    let message = whole("HTTP/1.1 204 x\r\nX-A:  \ta \t b\t \r\nx-b:\r\nx-b: \u{e4}\r\n\r\n").unwrap();
    let values: Vec<_> = message.head.headers.values().map(|value| value.as_bytes().to_vec()).collect();
    assert_eq!(values, [&b"a \t b"[..], b"", "\u{e4}".as_bytes()]);
}

#[test]
fn trailers_are_read_and_surplus_is_left() {
    let message = whole(
        "HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-T: 1\r\n\r\nHTTP/1.1 200",
    )
    .unwrap();
    assert_eq!((&*message.body, &*message.surplus), (&b"a"[..], &b"HTTP/1.1 200"[..]));
    assert_eq!(message.trailers["x-t"], "1");
}

/// Heads that are refused; the body follows by `content-length: 0` where nothing else is said.
#[test]
fn malformed_heads_are_refused() {
    let long = format!("x: {}", "x".repeat(600));
    for (head, fault) in [
        ("SSH-2.0-OpenSSH", Fault::NotHttp),
        ("<html>", Fault::NotHttp),
        ("\r\nHTTP/1.1 200 OK", Fault::NotHttp),
        (" HTTP/1.1 200 OK", Fault::NotHttp),
        ("http/1.1 200 OK", Fault::NotHttp),
        ("HTTP/2 200 OK", Fault::NotHttp),
        ("HTTP/0.9 200 OK", Fault::NotHttp),
        ("HTTP/1.2 200 OK", Fault::StatusLine),
        ("HTTP/1.11 200 OK", Fault::StatusLine),
        ("HTTP/1.1  200 OK", Fault::StatusLine),
        ("HTTP/1.1\t200 OK", Fault::StatusLine),
        ("HTTP/1.1 20 OK", Fault::StatusLine),
        ("HTTP/1.1 2000 OK", Fault::StatusLine),
        ("HTTP/1.1 099 OK", Fault::StatusLine),
        ("HTTP/1.1 +20 OK", Fault::StatusLine),
        ("HTTP/1.1 abc OK", Fault::StatusLine),
        ("HTTP/1.1 200OK", Fault::StatusLine),
        ("HTTP/1.1 200 O\0K", Fault::StatusLine),
        ("HTTP/1.1 200 O\rK", Fault::StatusLine),
        ("HTTP/1.1", Fault::StatusLine),
        ("HTTP/1.1 200 OK\nx: y", Fault::LineEnd),
        ("HTTP/1.1 200 OK\r\nx: y\n", Fault::LineEnd),
        ("HTTP/1.1 200 OK\r\n\n", Fault::LineEnd),
        ("HTTP/1.1 200 OK\r\nx: a\rb", Fault::FieldValue),
        ("HTTP/1.1 200 OK\r\nx: a\r\r", Fault::FieldValue),
        ("HTTP/1.1 200 OK\r\nx: a\0b", Fault::FieldValue),
        ("HTTP/1.1 200 OK\r\nx: a\x7fb", Fault::FieldValue),
        ("HTTP/1.1 200 OK\r\nx: a\x0bb", Fault::FieldValue),
        ("HTTP/1.1 200 OK\r\nx : a", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\nx\0: a", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\nx y: a", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\n: a", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\nx", Fault::FieldName),
        ("HTTP/1.1 200 OK\r\n x: a", Fault::Folded),
        ("HTTP/1.1 200 OK\r\nx: a\r\n\tb", Fault::Folded),
        ("HTTP/1.1 200 OK\r\na: 1\r\na: 2\r\nc: 3\r\nd: 4\r\ne: 5", Fault::FieldsMax(4)),
        (&format!("HTTP/1.1 200 OK\r\n{long}"), Fault::HeadBytesMax(512)),
        ("HTTP/1.1 200 OK\r\ncontent-length: -1", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length: +1", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0x1", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1 1", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1, 1", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length:", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nContent-Length: 2", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked", Fault::TwoLengths),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip", Fault::TransferEncoding),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked", Fault::TransferEncoding),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked", Fault::TransferEncoding),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: , chunked", Fault::TransferEncoding),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: identity", Fault::TransferEncoding),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked", Fault::TransferEncoding),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: \x0bchunked", Fault::FieldValue),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding:", Fault::TransferEncoding),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
            Fault::TransferEncoding,
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: x\r\ntransfer-encoding: chunked", Fault::TransferEncoding),
        ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked", Fault::TransferEncoding),
        ("HTTP/1.1 204 x\r\ncontent-length: 1", Fault::UnexpectedBody),
        ("HTTP/1.1 204 x\r\ntransfer-encoding: chunked", Fault::UnexpectedBody),
        ("HTTP/1.1 100 x\r\ncontent-length: 1", Fault::UnexpectedBody),
        ("HTTP/1.1 103 x\r\ntransfer-encoding: chunked", Fault::UnexpectedBody),
        ("HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket", Fault::Switched),
        ("HTTP/1.1 100 x\r\n\r\nHTTP/1.1 100 x\r\n\r\nHTTP/1.1 100 x", Fault::InterimMax(2)),
        ("HTTP/1.1 100 x\r\n\r\nnonsense", Fault::NotHttp),
    ] {
        assert_eq!(whole(&format!("{head}\r\n\r\n")), Err(fault), "{head:?}");
    }
}

#[test]
fn a_connection_goes_on_with_what_was_asked_for_or_not_at_all() {
    const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket";
    for (description, asked, answer, expected) in [
        ("as asked", Some("websocket"), format!("101 x\r\n{UPGRADE}"), Ok(101)),
        ("in other letters", Some("WebSocket"), format!("101\r\n{UPGRADE}"), Ok(101)),
        (
            "after interim answers",
            Some("websocket"),
            format!("100 x\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 101 x\r\n{UPGRADE}"),
            Ok(101),
        ),
        ("declined", Some("websocket"), format!("200 x\r\ncontent-length: 0\r\n{UPGRADE}"), Ok(200)),
        ("unasked", None, format!("101 x\r\n{UPGRADE}"), Err(Fault::Switched)),
        ("another protocol", Some("chat"), format!("101 x\r\n{UPGRADE}"), Err(Fault::Switched)),
        ("no protocol", Some("websocket"), "101 x\r\nconnection: upgrade".into(), Err(Fault::Switched)),
        ("two", Some("websocket"), format!("101 x\r\n{UPGRADE}\r\nupgrade: x"), Err(Fault::Switched)),
        ("a list", Some("websocket"), format!("101 x\r\n{UPGRADE}, x"), Err(Fault::Switched)),
        (
            "not this connection",
            Some("websocket"),
            "101 x\r\nupgrade: websocket".into(),
            Err(Fault::Switched),
        ),
        (
            "that ends",
            Some("websocket"),
            format!("101 x\r\n{UPGRADE}\r\nconnection: close"),
            Err(Fault::Switched),
        ),
        (
            "with a body",
            Some("websocket"),
            format!("101 x\r\n{UPGRADE}\r\ncontent-length: 1"),
            Err(Fault::UnexpectedBody),
        ),
    ] {
        let mut reader = HeadReader::new(&Method::GET, asked.map(HeaderValue::from_static), LIMITS);
        let mut buffer = BytesMut::from(format!("HTTP/1.1 {answer}\r\n\r\nahead").as_bytes());
        let read = reader.read(&mut buffer).map(|head| head.unwrap().status.as_u16());
        assert_eq!(read, expected, "{description}");
        if expected == Ok(101) {
            assert_eq!(buffer, "ahead", "{description}");
        }
    }
}

#[test]
fn malformed_bodies_are_refused() {
    let extensions = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(CHUNK_EXTENSION_BYTES_MAX + 1));
    let trailers = format!("0\r\nx: {}\r\n\r\n", "x".repeat(TRAILER_BYTES_MAX));
    for (body, fault) in [
        ("", Fault::Cut),
        ("1\r\na\r\n", Fault::Cut),
        ("1\r\na\r\n0\r\n", Fault::Cut),
        ("1\r\na\r\n0\r\nx: y\r\n", Fault::Cut),
        ("2\r\na", Fault::Cut),
        ("\r\n", Fault::ChunkSize),
        (" 1\r\na\r\n", Fault::ChunkSize),
        ("1 \r\na\r\n", Fault::ChunkSize),
        ("-1\r\na\r\n", Fault::ChunkSize),
        ("+1\r\na\r\n", Fault::ChunkSize),
        ("0x1\r\na\r\n", Fault::ChunkSize),
        ("1_0\r\na\r\n", Fault::ChunkSize),
        ("g\r\na\r\n", Fault::ChunkSize),
        (";x\r\na\r\n", Fault::ChunkSize),
        ("10000000000000001\r\na\r\n", Fault::ChunkSize),
        ("00000000000000001\r\na\r\n", Fault::ChunkSize),
        ("1\na\r\n", Fault::ChunkSize),
        ("1\rx\na\r\n", Fault::LineEnd),
        ("1\r\r\na\r\n", Fault::LineEnd),
        ("1;x\na\r\n", Fault::ChunkExtension),
        ("1;x\0y\r\na\r\n", Fault::ChunkExtension),
        ("1;x\ty\r\na\r\n", Fault::ChunkExtension),
        ("1;x\x7fy\r\na\r\n", Fault::ChunkExtension),
        ("1;x\ry\r\na\r\n", Fault::LineEnd),
        (&extensions, Fault::ChunkExtensionBytesMax(CHUNK_EXTENSION_BYTES_MAX)),
        ("1\r\nab\r\n", Fault::ChunkEnd),
        ("1\r\na\n", Fault::ChunkEnd),
        ("1\r\na\rx", Fault::ChunkEnd),
        ("1\r\na0\r\n\r\n", Fault::ChunkEnd),
        ("0\r\n\n", Fault::LineEnd),
        ("0\r\nx: y\n\r\n", Fault::LineEnd),
        ("0\r\nx : y\r\n\r\n", Fault::FieldName),
        ("0\r\nx: y\r\n z\r\n\r\n", Fault::Folded),
        ("0\r\nx: \0\r\n\r\n", Fault::FieldValue),
        ("0\r\na: 1\r\nb: 1\r\nc: 1\r\nd: 1\r\ne: 1\r\n\r\n", Fault::FieldsMax(4)),
        (&trailers, Fault::TrailerBytesMax(TRAILER_BYTES_MAX)),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        assert_eq!(whole(&answer), Err(fault), "{body:?}");
    }
    assert_eq!(whole("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"), Err(Fault::Cut));
    assert_eq!(whole("HTTP/1.1 200 OK\r\ncontent-le"), Err(Fault::Cut));
}

#[test]
fn nothing_is_waited_for_once_an_answer_cannot_become_right() {
    for bytes in ["S", "HTTP/2", "HTTP/1.1 200 OK\n", "HTTP/1.1 200 OK\r\nx: y\n"] {
        let mut reader = HeadReader::new(&Method::GET, None, LIMITS);
        assert!(reader.read(&mut BytesMut::from(bytes)).is_err(), "{bytes:?}");
    }
}

#[test]
fn requests_are_written() {
    for (method, length, expected) in [
        ("GET", Length::None, "GET /a?b HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-a: 2\r\n\r\n"),
        ("DELETE", Length::None, "DELETE /a?b HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-a: 2\r\n\r\n"),
        (
            "POST",
            Length::None,
            "POST /a?b HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 0\r\n\r\n",
        ),
        (
            "PUT",
            Length::Exact(70),
            "PUT /a?b HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 70\r\n\r\n",
        ),
        (
            "PATCH",
            Length::Chunked,
            "PATCH /a?b HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-a: 2\r\ntransfer-encoding: chunked\r\n\r\n",
        ),
    ] {
        let asked = Request::builder()
            .method(method)
            .uri("/a?b")
            .header("host", "h")
            .header("content-length", "5")
            .header("transfer-encoding", "gzip")
            .header("x-a", "1")
            .header("x-a", "2");
        let parts = asked.body(()).unwrap().into_parts().0;
        assert_eq!(request::head(&parts, length), expected.as_bytes());
    }
    let mut line = BytesMut::new();
    for bytes in [0, 9, 10, 255, 4096, usize::MAX] {
        request::put_chunk_line(&mut line, bytes);
    }
    assert_eq!(line, &b"0\r\n9\r\na\r\nff\r\n1000\r\nffffffffffffffff\r\n"[..]);
    let fields = HeaderMap::from_iter([("x-t".parse().unwrap(), "1".parse().unwrap())]);
    assert_eq!(request::trailers(&fields), &b"0\r\nx-t: 1\r\n\r\n"[..]);
}

/// Answers in pieces that are right, nearly right, and not at all.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        8 => Just("HTTP/1.1 200 OK\r\n"),
        1 => proptest::sample::select(vec![
            "HTTP/1.1 204 x\r\n", "HTTP/1.1 304 x\r\n", "HTTP/1.0 200 OK\r\n", "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 200 x\r\n",
            "HTTP/1.1 101 x\r\n", "HTTP/1.1 200\r\n", "HTTP/1.1 200 OK\n", "HTTP/1.1 20\r\n", "HTTP/1.2 200 OK\r\n",
            "HTTP/1.1 200 \u{7f}\r\n", "HTTP/1.1 999 \u{e4}\r\n", "\r\nHTTP/1.1 200 OK\r\n",
        ]),
    ];
    let field = proptest::sample::select(vec![
        "x-a: b\r\n",
        "x-a:b \r\n",
        "content-length: 3\r\n",
        "Content-Length: 0\r\n",
        "content-length: 12\r\n",
        "content-length: 3, 3\r\n",
        "content-length: -3\r\n",
        "content-length: \u{b}3\r\n",
        "transfer-encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "transfer-encoding: x\r\n",
        "connection: close\r\n",
        "x-a : b\r\n",
        " folded\r\n",
        "x-a: b\n",
        "x-a: \0\r\n",
        "x-a: b\rc\r\n",
        "x\"y: 1\r\n",
        "x@y: 1\r\n",
        "noname\r\n",
        ": x\r\n",
    ]);
    let body = proptest::sample::select(vec![
        "abc",
        "3\r\nabc\r\n",
        "0\r\n",
        "\r\n",
        "0\r\n\r\n",
        "x-t: 1\r\n\r\n",
        "3;x=y\r\nabc\r\n",
        "3 ; x\r\nabc\r\n",
        "3;\0\r\nabc\r\n",
        "3\nabc\n",
        "fffffffffffffffff\r\n",
        "x",
        "",
        "ffffffffffffffff\r\n",
        "3\r\nabcd\r\n",
        "03\r\nabc\r\n",
    ]);
    let text = (status, prop::collection::vec(field, 0..4), prop::collection::vec(body, 0..5)).prop_map(
        |(status, fields, body)| format!("{status}{}\r\n{}", fields.concat(), body.concat()).into_bytes(),
    );
    // Now and then one byte is another.
    (text, any::<prop::sample::Index>(), prop_oneof![6 => Just(None), 1 => any::<u8>().prop_map(Some)])
        .prop_map(|(mut text, at, byte)| {
            if let Some(byte) = byte {
                let at = at.index(text.len());
                text[at] = byte;
            }
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn however_it_is_cut_an_answer_is_the_same_and_hyper_agrees(answer in answer(), seed in any::<u8>()) {
        fuzzing::answers(&[&[seed][..], &answer].concat());
    }

    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..64), chunked in any::<bool>(), seed in any::<u8>()) {
        let head = if chunked { "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" } else { "HTTP/1.1 " };
        fuzzing::answers(&[&[seed], head.as_bytes(), &bytes].concat());
    }

    #[test]
    fn a_body_in_chunks_is_the_body(pieces in prop::collection::vec("[a-z\r\n]{1,40}", 0..6)) {
        let mut answer = BytesMut::from(&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..]);
        for piece in &pieces {
            request::put_chunk_line(&mut answer, piece.len());
            answer.extend_from_slice(piece.as_bytes());
            answer.extend_from_slice(request::CHUNK_END);
        }
        answer.extend_from_slice(request::LAST_CHUNK);
        let answer: Bytes = answer.freeze();
        prop_assert_eq!(read(&Method::GET, [&answer[..]]).unwrap().body, pieces.concat().into_bytes());
    }
}
