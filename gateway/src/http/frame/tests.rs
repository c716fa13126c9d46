//! Tables of what passes and what does not, and that it does not matter how the bytes come.

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { head_bytes_max: 512, target_bytes_max: 64, fields_max: 8 };

/// Everything that passes, the heads in it, and the fault behind.
type Found = (Vec<u8>, u64, Option<Fault>);

/// Feeds pieces as a guard does: what was not passed comes again, with more.
fn feed<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Found {
    let mut framer = Framer::new(LIMITS, 443);
    let (mut passed, mut kept) = (Vec::new(), Vec::new());
    for piece in pieces {
        kept.extend_from_slice(piece);
        let advance = framer.advance(&kept);
        passed.extend(kept.drain(..advance.passed));
        if advance.fault.is_some() {
            return (passed, framer.heads(), advance.fault);
        }
    }
    (passed, framer.heads(), None)
}

/// A description, the bytes, the heads that pass before the fault, and the fault.
type Refused<'a> = (&'a str, &'a str, u64, Fault);

fn refused(rows: &[Refused<'_>]) {
    for (description, bytes, heads, fault) in rows {
        let whole = feed([bytes.as_bytes()]);
        assert_eq!((whole.1, whole.2), (*heads, Some(*fault)), "{description}");
        // The same, byte by byte; and it needs no more than what is there.
        assert_eq!(feed(bytes.as_bytes().chunks(1)), whole, "{description}: byte by byte");
    }
}

/// A description, the bytes, and the heads in them, all of which pass.
fn passed(rows: &[(&str, &str, u64)]) {
    for (description, bytes, heads) in rows {
        let expected = (bytes.as_bytes().to_vec(), *heads, None);
        assert_eq!(feed([bytes.as_bytes()]), expected, "{description}");
        assert_eq!(feed(bytes.as_bytes().chunks(1)), expected, "{description}: byte by byte");
    }
}

/// A head with these lines beside its host.
macro_rules! post {
    ($lines:literal, $body:literal) => {
        concat!("POST / HTTP/1.1\r\nHost: a\r\n", $lines, "\r\n", $body)
    };
}

macro_rules! chunked {
    ($body:literal) => {
        post!("Transfer-Encoding: chunked\r\n", $body)
    };
}

#[test]
fn well_formed_requests_pass() {
    passed(&[
        ("a plain one", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("two", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nhost:a\r\n\r\n", 2),
        ("with a length", post!("Content-Length: 5\r\n", "helloGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 2),
        ("with an empty one", post!("Content-Length: 0\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 2),
        ("chunked", chunked!("5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 2),
        ("no chunk at all", chunked!("0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 2),
        ("large letters and zeros", chunked!("00A\r\n0123456789\r\n000\r\n\r\n"), 1),
        ("chunks that look like heads", chunked!("8\r\nGET / HT\r\n1\r\n\n\r\n2\r\n\r\n\r\n0\r\n\r\n"), 1),
        ("extensions", chunked!("5;a=b; c=\"d\";\te\r\nhello\r\n0;last\r\n\r\n"), 1),
        ("trailers", chunked!("0\r\nx-sum: 7\r\nx-end:\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 2),
        ("an empty line before it", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("and between", "GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("white space around values", post!("Content-Length: \t 2 \t\r\nX:\r\nY: a\tb  \r\n", "ab"), 1),
        ("other languages in values", post!("X: sm\u{f8}rrebr\u{f8}d\r\n", ""), 1),
        ("every sign of a token", post!("!#$%&'*+-.^_`|~09az: 1\r\n", ""), 1),
        ("an older version", "GET / HTTP/1.0\r\n\r\n", 1),
        ("with a length", "POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", 1),
        ("absolute-form", "GET HTTP://A:443/?q HTTP/1.1\r\nHost: a.\r\n\r\n", 1),
        ("without a path", "GET https://a HTTP/1.1\r\nHost: a:443\r\n\r\n", 1),
        ("with a query alone", "GET https://a?b HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("an IPv6 address", "GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n", 1),
        ("authority-form", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 1),
        ("asterisk-form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("what browsers do not encode", "GET /a|b[c]^{}?\\`{|}^[] HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("another method", "PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
    ]);
}

#[test]
fn lengths_beside_chunks_are_refused() {
    use Fault::*;
    refused(&[
        (
            "length first",
            post!("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"),
            0,
            LengthBesideCoding,
        ),
        (
            "chunks first",
            post!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", ""),
            0,
            LengthBesideCoding,
        ),
        (
            "no length",
            post!("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", ""),
            0,
            LengthBesideCoding,
        ),
        (
            "fields between",
            post!("Content-Length: 4\r\nX: y\r\nTransfer-Encoding: chunked\r\n", ""),
            0,
            LengthBesideCoding,
        ),
        (
            "letters of any size",
            post!("CONTENT-LENGTH: 4\r\ntransfer-encoding: chunked\r\n", ""),
            0,
            LengthBesideCoding,
        ),
        (
            "two lengths and chunks",
            post!("Content-Length: 4\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n", ""),
            0,
            LengthRepeated,
        ),
        (
            "a bad length and chunks",
            post!("Transfer-Encoding: chunked\r\nContent-Length: x\r\n", ""),
            0,
            LengthMalformed,
        ),
        (
            "a bad coding and a length",
            post!("Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n", ""),
            0,
            Coding,
        ),
        (
            "an older version",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            0,
            CodingInHttp10,
        ),
        (
            "and a length",
            "POST / HTTP/1.0\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            0,
            CodingInHttp10,
        ),
        (
            "behind a sound one",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            1,
            LengthBesideCoding,
        ),
    ]);
}

#[test]
fn lengths_that_differ_to_readers_are_refused() {
    use Fault::*;
    refused(&[
        ("two", post!("Content-Length: 1\r\nContent-Length: 2\r\n", ""), 0, LengthRepeated),
        ("twice the same", post!("Content-Length: 1\r\nContent-Length: 1\r\n", ""), 0, LengthRepeated),
        ("in one line", post!("Content-Length: 1, 1\r\n", ""), 0, LengthMalformed),
        ("none", post!("Content-Length:\r\n", ""), 0, LengthMalformed),
        ("a sign", post!("Content-Length: +1\r\n", ""), 0, LengthMalformed),
        ("a negative one", post!("Content-Length: -1\r\n", ""), 0, LengthMalformed),
        ("hexadecimal", post!("Content-Length: 0x10\r\n", ""), 0, LengthMalformed),
        ("octal to some", post!("Content-Length: 010\r\n", ""), 0, LengthMalformed),
        ("a fraction", post!("Content-Length: 1.0\r\n", ""), 0, LengthMalformed),
        ("an exponent", post!("Content-Length: 1e1\r\n", ""), 0, LengthMalformed),
        ("quoted", post!("Content-Length: \"1\"\r\n", ""), 0, LengthMalformed),
        ("two numbers", post!("Content-Length: 1 1\r\n", ""), 0, LengthMalformed),
        ("beyond every integer", post!("Content-Length: 18446744073709551617\r\n", ""), 0, LengthMalformed),
        ("beyond a signed one", post!("Content-Length: 9223372036854775808\r\n", ""), 0, LengthMalformed),
        ("digits of another script", post!("Content-Length: \u{661}\r\n", ""), 0, LengthMalformed),
    ]);
    passed(&[("the largest", post!("Content-Length: 9223372036854775807\r\n", "so far"), 1)]);
}

#[test]
fn other_codings_are_refused() {
    use Fault::*;
    refused(&[
        ("two lines", post!("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", ""), 0, Coding),
        (
            "the other way",
            post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", ""),
            0,
            CodingRepeated,
        ),
        (
            "twice",
            post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", ""),
            0,
            CodingRepeated,
        ),
        ("twice in a line", post!("Transfer-Encoding: chunked, chunked\r\n", ""), 0, Coding),
        ("behind another", post!("Transfer-Encoding: gzip, chunked\r\n", ""), 0, Coding),
        ("before another", post!("Transfer-Encoding: chunked, identity\r\n", ""), 0, Coding),
        ("a list with a gap", post!("Transfer-Encoding: , chunked\r\n", ""), 0, Coding),
        ("and one behind", post!("Transfer-Encoding: chunked,\r\n", ""), 0, Coding),
        ("none", post!("Transfer-Encoding:\r\n", ""), 0, Coding),
        ("identity", post!("Transfer-Encoding: identity\r\n", ""), 0, Coding),
        ("another case", post!("Transfer-Encoding: cHuNkEd\r\n", ""), 0, Coding),
        ("quoted", post!("Transfer-Encoding: \"chunked\"\r\n", ""), 0, Coding),
        ("with a parameter", post!("Transfer-Encoding: chunked;q=1\r\n", ""), 0, Coding),
        ("a vertical tab", post!("Transfer-Encoding: \x0bchunked\r\n", ""), 0, FieldValue),
        ("a carriage return", post!("Transfer-Encoding: chunked\r\r\n", ""), 0, FieldValue),
        ("a byte of another alphabet", post!("Transfer-Encoding: \u{a0}chunked\r\n", ""), 0, Coding),
        ("a space in the name", post!("Transfer-Encoding : chunked\r\n", ""), 0, FieldName),
        ("folded", post!("Transfer-Encoding:\r\n chunked\r\n", ""), 0, Coding),
        ("hidden in a fold", post!("X: y\r\n Transfer-Encoding: chunked\r\n", ""), 0, Fold),
    ]);
}

#[test]
fn tricks_with_chunks_are_refused() {
    use Fault::*;
    refused(&[
        ("no size", chunked!("\r\nhello\r\n0\r\n\r\n"), 1, ChunkSize),
        ("an extension alone", chunked!(";a\r\n"), 1, ChunkSize),
        ("a sign", chunked!("+5\r\nhello\r\n"), 1, ChunkSize),
        ("a negative one", chunked!("-1\r\n"), 1, ChunkSize),
        ("a prefix", chunked!("0x5\r\nhello\r\n"), 1, ChunkSize),
        ("a separator", chunked!("1_0\r\n"), 1, ChunkSize),
        ("white space before it", chunked!(" 5\r\nhello\r\n"), 1, ChunkSize),
        ("white space behind it", chunked!("5 \r\nhello\r\n"), 1, ChunkSize),
        ("and an extension", chunked!("5\t;a\r\nhello\r\n"), 1, ChunkSize),
        ("beyond every integer", chunked!("10000000000000005\r\nhello\r\n"), 1, ChunkSize),
        ("beyond a signed one", chunked!("8000000000000000\r\n"), 1, ChunkSize),
        ("hidden by zeros", chunked!("00000000000000005\r\nhello\r\n"), 1, ChunkSize),
        ("a line feed alone", chunked!("5\nhello\r\n"), 1, LineEnd),
        ("a carriage return alone", chunked!("5\rhello\r\n"), 1, ChunkSize),
        ("a line feed in an extension", chunked!("5;a\nhello\r\n0\r\n\r\n"), 1, LineEnd),
        ("a carriage return in one", chunked!("5;a\rb\r\nhello\r\n"), 1, ChunkExtension),
        ("a zero byte in one", chunked!("5;\0\r\nhello\r\n"), 1, ChunkExtension),
        ("longer than its size", chunked!("5\r\nhello!\r\n"), 1, ChunkEnd),
        ("shorter", chunked!("6\r\nhello\r\n0\r\n\r\n"), 1, ChunkEnd),
        ("a line feed behind it", chunked!("5\r\nhello\n0\r\n\r\n"), 1, ChunkEnd),
        ("two carriage returns", chunked!("5\r\nhello\r\r\n0\r\n\r\n"), 1, ChunkEnd),
        ("nothing behind it", chunked!("5\r\nhello0\r\n\r\n"), 1, ChunkEnd),
        ("the last line with a line feed", chunked!("0\r\n\n"), 1, LineEnd),
        ("trailers that frame", chunked!("0\r\nContent-Length: 5\r\n\r\n"), 1, TrailerForbidden),
        ("or code", chunked!("0\r\nTransfer-Encoding: chunked\r\n\r\n"), 1, TrailerForbidden),
        ("or name a host", chunked!("0\r\nhost: b\r\n\r\n"), 1, TrailerForbidden),
        ("no trailer", chunked!("0\r\nGET /admin HTTP/1.1\r\n\r\n"), 1, FieldName),
        ("a folded one", chunked!("0\r\nx: y\r\n z\r\n\r\n"), 1, Fold),
        ("with a space in its name", chunked!("0\r\nx : y\r\n\r\n"), 1, FieldName),
        ("with a zero byte", chunked!("0\r\nx: \0\r\n\r\n"), 1, FieldValue),
        ("with a line feed", chunked!("0\r\nx: y\n\r\n"), 1, LineEnd),
    ]);
}

#[test]
fn disguised_fields_are_refused() {
    use Fault::*;
    refused(&[
        ("a space before the colon", post!("Client-Cert : x\r\n", ""), 0, FieldName),
        ("a tab", post!("Client-Cert\t: x\r\n", ""), 0, FieldName),
        ("a zero byte in the name", post!("Client-Cert\0: x\r\n", ""), 0, FieldName),
        ("a dash of another alphabet", post!("Client\u{2011}Cert: x\r\n", ""), 0, FieldName),
        ("no name", post!(": x\r\n", ""), 0, FieldName),
        ("no colon", post!("Client-Cert\r\n", ""), 0, FieldName),
        ("in parentheses", post!("(Client-Cert): x\r\n", ""), 0, FieldName),
        ("two names", post!("Client-Cert X: x\r\n", ""), 0, FieldName),
        ("behind a line feed", post!("X: y\nClient-Cert: x\r\n", ""), 0, LineEnd),
        ("behind a carriage return", post!("X: y\rClient-Cert: x\r\n", ""), 0, FieldValue),
        ("in a fold", post!("X: y\r\n Client-Cert: x\r\n", ""), 0, Fold),
        ("in a fold with a tab", post!("X: y\r\n\tClient-Cert: x\r\n", ""), 0, Fold),
        ("before the first field", "GET / HTTP/1.1\r\n Client-Cert: x\r\nHost: a\r\n\r\n", 0, Fold),
    ]);
}

#[test]
fn hosts_and_targets_that_disagree_are_refused() {
    use Fault::*;
    refused(&[
        ("no host", "GET / HTTP/1.1\r\n\r\n", 0, HostMissing),
        ("not even in the target", "GET http://a/ HTTP/1.1\r\n\r\n", 0, HostMissing),
        ("two", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 0, HostRepeated),
        ("twice the same", "GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n", 0, HostRepeated),
        ("on an older version", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 0, HostRepeated),
        ("an empty one", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 0, HostMalformed),
        ("a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 0, HostMalformed),
        ("a list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 0, HostMalformed),
        ("user information", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 0, HostMalformed),
        ("a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 0, HostMalformed),
        ("a port that is none", "GET / HTTP/1.1\r\nHost: a:80x\r\n\r\n", 0, HostMalformed),
        ("another alphabet", "GET / HTTP/1.1\r\nHost: \u{e4}\r\n\r\n", 0, HostMalformed),
        ("percent-encoded", "GET / HTTP/1.1\r\nHost: %61\r\n\r\n", 0, HostMalformed),
        ("another host in the target", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 0, HostContradicts),
        ("another port", "GET http://a:444/ HTTP/1.1\r\nHost: a\r\n\r\n", 0, HostContradicts),
        ("on an older version", "GET http://b/ HTTP/1.0\r\nHost: a\r\n\r\n", 0, HostContradicts),
        ("user information in the target", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("no host in the target", "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("another scheme", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("no scheme", "GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("authority-form", "GET a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("asterisk-form", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("a tunnel without a port", "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("a tunnel to a path", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("a fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("a backslash", "GET /..\\a HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("another alphabet in the target", "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
    ]);
}

#[test]
fn lines_that_are_none_are_refused() {
    use Fault::*;
    refused(&[
        ("line feeds alone", "GET / HTTP/1.1\nHost: a\n\n", 0, LineEnd),
        ("one of them", "GET / HTTP/1.1\r\nHost: a\n\r\n", 0, LineEnd),
        ("at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 0, LineEnd),
        ("at the beginning", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, LineEnd),
        ("carriage returns alone", "GET / HTTP/1.1\rHost: a\r\r\n", 0, Version),
        ("two empty lines", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0, RequestLine),
        ("a carriage return before the target", "GET \r/ HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("a zero byte in the target", "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 0, Target),
        ("a zero byte in the method", "G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", 0, Method),
        ("a zero byte in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 0, FieldValue),
        ("an escape", "GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[2J\r\n\r\n", 0, FieldValue),
        ("a delete", "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n", 0, FieldValue),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 0, Version),
        ("two spaces behind", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", 0, Version),
        ("a space at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 0, Version),
        ("a tab for a space", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 0, Method),
        ("no version", "GET /\r\n\r\n", 0, RequestLine),
        ("another version", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 0, Version),
        ("a newer one", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, Version),
        ("in small letters", "GET / http/1.1\r\nHost: a\r\n\r\n", 0, Version),
        ("more digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", 0, Version),
        ("a method that is none", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 0, Method),
        ("none", " / HTTP/1.1\r\nHost: a\r\n\r\n", 0, RequestLine),
        ("TLS", "\x16\x03\x01\x02\0\x01", 0, RequestLine),
    ]);
}

#[test]
fn limits_hold_to_the_byte() {
    use Fault::*;
    let head = |length: usize| {
        let frame = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length - frame))
    };
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    let chunks = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk_line = |length: usize| format!("{chunks}0;{}\r\n\r\n", "x".repeat(length - 4));
    let extensions = |count: usize| {
        format!("{chunks}{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "x".repeat(511)).repeat(count))
    };
    let trailers = |count: usize| format!("{chunks}0\r\n{}\r\n", "X: y\r\n".repeat(count));
    let trailer =
        |length: usize| format!("{chunks}0\r\nX: {}\r\n\r\n", "x".repeat(length - "X: \r\n\r\n".len()));
    let extension_lines = CHUNK_EXTENSION_BYTES_MAX / 512;
    passed(&[
        ("a head", &head(512), 1),
        ("a target", &target(64), 1),
        ("fields", &fields(8), 1),
        ("a chunk's line", &chunk_line(CHUNK_LINE_BYTES_MAX), 1),
        ("extensions", &extensions(extension_lines), 1),
        ("trailers", &trailers(8), 1),
        ("a trailer", &trailer(512), 1),
        ("a method", &format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(32)), 1),
    ]);
    refused(&[
        ("a head", &head(513), 0, HeadTooLarge),
        ("whose end does not come", &head(600)[..512], 0, HeadTooLarge),
        ("a target", &target(65), 0, TargetTooLong),
        ("whose end does not come", &format!("GET /{}", "x".repeat(200)), 0, TargetTooLong),
        ("no line at all", &"x".repeat(1000), 0, TargetTooLong),
        ("fields", &fields(9), 0, TooManyFields),
        ("a chunk's line", &chunk_line(CHUNK_LINE_BYTES_MAX + 1), 1, ChunkLineTooLong),
        (
            "whose end does not come",
            &format!("{chunks}{}", "0".repeat(CHUNK_LINE_BYTES_MAX)),
            1,
            ChunkLineTooLong,
        ),
        ("extensions", &extensions(extension_lines + 1), 1, ChunkExtensionsTooLong),
        ("trailers", &trailers(9), 1, TooManyTrailers),
        ("a trailer", &trailer(513), 1, TrailersTooLarge),
        (
            "several",
            &format!("{chunks}0\r\n{}", format!("X: {}\r\n", "x".repeat(195)).repeat(3)),
            1,
            TrailersTooLarge,
        ),
        ("a method", &format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33)), 0, Method),
    ]);
}

#[test]
fn what_is_refused_is_stood_for_by_its_sound_parts() {
    for (description, bytes, expected) in [
        (
            "all of it",
            "POST /x?q HTTP/1.1\r\nHost:  A.example:1 \r\nContent-Length: x\r\n\r\n",
            "POST /x?q HTTP/1.1\r\nhost: A.example:1\r\n\r\n",
        ),
        ("no host yet", "\r\nGET /x HTTP/1.0\r\nX\r\n", "GET /x HTTP/1.0\r\n\r\n"),
        ("no host that is one", "GET /x HTTP/1.1\r\nHost: a b\r\n\r\n", "GET /x HTTP/1.1\r\n\r\n"),
        ("no request line", "GET /x\r\nHost: a\r\n\r\n", "- * HTTP/1.1\r\n\r\n"),
    ] {
        let mut framer = Framer::new(LIMITS, 443);
        assert!(framer.advance(bytes.as_bytes()).fault.is_some(), "{description}");
        assert!(framer.is_before_body(), "{description}");
        let stand_in = String::from_utf8(framer.stand_in(bytes.as_bytes())).unwrap();
        assert_eq!(stand_in, expected, "{description}");
    }
}

#[test]
fn a_head_is_under_way_from_its_first_byte_to_its_last() {
    for (bytes, expected) in [
        ("", false),
        ("\r\n", false),
        ("\r\nG", true),
        ("G", true),
        ("GET / HTTP/1.1\r\n", true),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r", true),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        (post!("Content-Length: 2\r\n", "a"), false),
        (post!("Content-Length: 2\r\n", "ab\r\n"), false),
        (post!("Content-Length: 2\r\n", "abG"), true),
        (chunked!("0\r"), false),
    ] {
        let mut framer = Framer::new(LIMITS, 443);
        assert_eq!(framer.advance(bytes.as_bytes()).fault, None, "{bytes:?}");
        assert_eq!(framer.is_in_head(), expected, "{bytes:?}");
    }
}

#[test]
fn behind_a_request_to_leave_http_nothing_is_looked_at() {
    for (head, waits) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nuPGRADE: x\r\nContent-Length: 0\r\n\r\n", true),
        ("POST / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n.", false),
        ("POST / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nX-Upgrade: x\r\n\r\n", false),
    ] {
        let mut framer = Framer::new(LIMITS, 443);
        let bytes = format!("{head}\0\n\r");
        let advance = framer.advance(bytes.as_bytes());
        assert_eq!(advance.passed, head.len(), "{head}");
        assert_eq!((framer.waits(), advance.fault.is_none()), (waits, waits), "{head}");
        if waits {
            assert!(!framer.is_in_head() && !framer.is_before_body(), "{head}");
            framer.resume();
            assert_eq!(framer.advance(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").passed, 27, "{head}");
            assert_eq!(framer.heads(), 2);
        }
    }
}

/// Requests, sound and not, with a few bytes changed.
pub(crate) fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /x?y HTTP/1.1\r\nhost: a:443\r\nX: 1\r\n\r\n",
        "\r\nGET https://a/b HTTP/1.1\r\nHost: a\r\nX: \t1 \r\n\r\n",
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n1234567",
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\na;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
        "POST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-sum: 7\r\nx-y:z\r\n\r\n",
        "POST /5 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "POST /6 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "POST /7 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "0\r\n\r\n",
        "\r\n",
    ]);
    let change = (
        any::<prop::sample::Index>(),
        0..3u8,
        prop::sample::select(b"\r\n\0 \t:;,0159aAfFx-_/HGT*\x7f\xe4".to_vec()),
    );
    (prop::collection::vec(part, 1..5), prop::collection::vec(change, 0..3)).prop_map(|(parts, changes)| {
        let mut bytes: Vec<u8> = parts.concat().into_bytes();
        for (place, kind, byte) in changes {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..600), seed in any::<u8>()) {
        crate::fuzzing::requests(&[&[seed][..], &bytes].concat());
    }
}
