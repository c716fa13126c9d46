//! Requests as the strictest of backends would read them (RFC 9112, with none of what it lets a recipient mend).
//!
//! Written apart from the gateway's own readers and in the plainest way: all of a message at once, no state. What passes
//! the gateway has to be readable here, and to mean the same.

/// A request, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    pub(crate) is_http10: bool,
}

/// Names in lower case, values without white space around them.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// The request at the beginning of `bytes` and its length; `None`: its end has not come.
///
/// # Errors
/// What a strict backend would refuse it for.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    // RFC 9112 §2.2 has servers pass over one empty line.
    let start = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let Some((lines, head)) = section(&bytes[start..])? else { return Ok(None) };
    let Some((first, lines)) = lines.split_first() else { return Err("no request line".to_owned()) };
    let (method, target, is_http10) = request_line(first)?;
    let fields = fields(lines)?;
    let behind = &bytes[start + head..];
    let read = match length(&fields, is_http10)? {
        Length::Known(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            behind.get(..length).map(|body| (body.to_vec(), Vec::new(), length))
        }
        Length::Chunked => chunks(behind)?,
    };
    Ok(read.map(|(body, trailers, length)| {
        (Request { method, target, fields, body, trailers, is_http10 }, start + head + length)
    }))
}

/// The whole requests in `bytes`, and what the one behind them would be refused for.
pub(crate) fn requests(mut bytes: &[u8]) -> (Vec<Request>, Option<String>) {
    let mut found = Vec::new();
    loop {
        match request(bytes) {
            Ok(Some((request, length))) => {
                found.push(request);
                bytes = &bytes[length..];
            }
            Ok(None) => return (found, None),
            Err(error) => return (found, Some(error)),
        }
    }
}

enum Length {
    Known(u64),
    Chunked,
}

type Section<'b> = (Vec<&'b [u8]>, usize);

/// The lines up to an empty one, and their length with it.
fn section(bytes: &[u8]) -> Result<Option<Section<'_>>, String> {
    let (mut lines, mut at) = (Vec::new(), 0);
    while let Some((line, length)) = line(&bytes[at..])? {
        at += length;
        if line.is_empty() {
            return Ok(Some((lines, at)));
        }
        lines.push(line);
    }
    Ok(None)
}

/// A line without its CR LF, and its length with it. No other control byte is in it but tabs.
fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, String> {
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => match bytes.get(at + 1) {
                Some(b'\n') => return Ok(Some((&bytes[..at], at + 2))),
                Some(_) => return Err("a carriage return alone".to_owned()),
                None => return Ok(None),
            },
            b'\t' | b' '..=b'~' | 0x80.. => {}
            other => return Err(format!("the byte {other:#04x} in a line")),
        }
    }
    Ok(None)
}

fn request_line(line: &[u8]) -> Result<(String, String, bool), String> {
    let text = std::str::from_utf8(line).map_err(|_| "a request line that is no ASCII".to_owned())?;
    let parts: Vec<&str> = text.split(' ').collect();
    let [method, target, version] = parts.as_slice() else { return Err(format!("the line {text:?}")) };
    if method.is_empty() || !method.bytes().all(is_token_byte) {
        return Err(format!("the method {method:?}"));
    }
    if target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("the target {target:?}"));
    }
    match *version {
        "HTTP/1.1" => Ok(((*method).to_owned(), (*target).to_owned(), false)),
        "HTTP/1.0" => Ok(((*method).to_owned(), (*target).to_owned(), true)),
        _ => Err(format!("the version {version:?}")),
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn fields(lines: &[&[u8]]) -> Result<Fields, String> {
    lines
        .iter()
        .map(|line| {
            let colon = line.iter().position(|byte| *byte == b':').ok_or("a field without a colon")?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            if name.is_empty() || !name.iter().copied().all(is_token_byte) {
                return Err(format!("the field name {:?}", String::from_utf8_lossy(name)));
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            Ok((name, value.trim_ascii().to_vec()))
        })
        .collect()
}

/// How many fields have this name, and the first one's value.
fn only<'f>(fields: &'f Fields, name: &str) -> Result<Option<&'f [u8]>, String> {
    let mut values = fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_slice());
    match (values.next(), values.next()) {
        (first, None) => Ok(first),
        _ => Err(format!("more than one {name}")),
    }
}

fn length(fields: &Fields, is_http10: bool) -> Result<Length, String> {
    if only(fields, "host")?.is_none() && !is_http10 {
        return Err("no host".to_owned());
    }
    match (only(fields, "content-length")?, only(fields, "transfer-encoding")?) {
        (None, None) => Ok(Length::Known(0)),
        (Some(digits), None) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let digits = String::from_utf8_lossy(digits);
            digits.parse().map(Length::Known).map_err(|_| format!("the length {digits}"))
        }
        (None, Some(b"chunked")) if !is_http10 => Ok(Length::Chunked),
        (length, coding) => Err(format!("the length {length:?} and the coding {coding:?}")),
    }
}

type Chunked = (Vec<u8>, Fields, usize);

fn chunks(bytes: &[u8]) -> Result<Option<Chunked>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some((line, length)) = line(&bytes[at..])? else { return Ok(None) };
        at += length;
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("the chunk line {:?}", String::from_utf8_lossy(line)));
        }
        let digits = String::from_utf8_lossy(digits);
        let size = usize::from_str_radix(&digits, 16).map_err(|_| format!("the chunk size {digits}"))?;
        if size == 0 {
            let Some((lines, length)) = section(&bytes[at..])? else { return Ok(None) };
            return Ok(Some((body, fields(&lines)?, at + length)));
        }
        let Some(data) = at.checked_add(size).and_then(|end| bytes.get(at..end)) else { return Ok(None) };
        at += size;
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Ok(None),
            _ => return Err("a chunk that does not end".to_owned()),
        }
        body.extend_from_slice(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_or_refused() {
        let post = |lines: &str, rest: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n{rest}");
        for (description, bytes, expected) in [
            ("plain", "GET /a HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), Ok(Some("/a||"))),
            ("a length", post("content-length: 2\r\n", "abGET"), Ok(Some("/|ab|"))),
            ("a part of it", post("content-length: 3\r\n", "ab"), Ok(None)),
            (
                "chunks",
                post("transfer-encoding: chunked\r\n", "1;x\r\na\r\n0\r\nx-t: 1\r\n\r\n"),
                Ok(Some("/|a|x-t")),
            ),
            ("a part of them", post("transfer-encoding: chunked\r\n", "1\r\na\r\n0\r\n"), Ok(None)),
            ("both", post("content-length: 1\r\ntransfer-encoding: chunked\r\n", ""), Err(())),
            ("two lengths", post("content-length: 1\r\ncontent-length: 1\r\n", ""), Err(())),
            ("another coding", post("transfer-encoding: gzip, chunked\r\n", ""), Err(())),
            ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned(), Err(())),
            ("a line feed", "GET / HTTP/1.1\nhost: a\r\n\r\n".to_owned(), Err(())),
            ("a space", post("x : y\r\n", ""), Err(())),
            ("a longer chunk", post("transfer-encoding: chunked\r\n", "1\r\nab\r\n0\r\n\r\n"), Err(())),
            ("a signed size", post("transfer-encoding: chunked\r\n", "+1\r\na\r\n0\r\n\r\n"), Err(())),
        ] {
            let found = request(bytes.as_bytes()).map_err(drop).map(|found| {
                found.map(|(request, _)| {
                    let body = String::from_utf8(request.body).unwrap();
                    let trailers: Vec<String> = request.trailers.into_iter().map(|(name, _)| name).collect();
                    format!("{}|{body}|{}", request.target, trailers.join(","))
                })
            });
            assert_eq!(found, expected.map(|text| text.map(str::to_owned)), "{description}");
        }
    }
}
