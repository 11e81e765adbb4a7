//! Follows what an HTTP/1.1 client sends, to tell whether it is in the middle of a head. Requests may come back to back,
//! and what has been read of the next one while one is answered is hyper's, which does not tell. Only a time-out
//! depends on it: hyper alone decides what the requests are.

/// The most of a line that is looked at; what is looked for is shorter.
const LINE_BYTES: usize = 128;

/// Where the client is in what it sends.
#[derive(Debug, Default)]
pub struct Framing {
    part: Part,
    /// What came of the line that is not yet whole.
    line: Vec<u8>,
    /// What follows the head that is not yet whole.
    body: Body,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing of a request has come.
    #[default]
    Between,
    Head,
    /// A body, or a chunk of one, with so many bytes to come; whether more chunks follow.
    Bytes(u64, bool),
    ChunkSize,
    Trailers,
}

#[derive(Debug, Default, Clone, Copy)]
enum Body {
    #[default]
    None,
    Length(u64),
    Chunked,
}

impl Framing {
    /// Whether a head has begun and not ended.
    pub fn is_in_head(&self) -> bool {
        self.part == Part::Head
    }

    /// These bytes came next.
    pub fn came(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if let Part::Bytes(left, has_more) = self.part {
                let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                bytes = &bytes[count..];
                self.part = match left - count as u64 {
                    0 if has_more => Part::ChunkSize,
                    0 => Part::Between,
                    left => Part::Bytes(left, has_more),
                };
                continue;
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let (some, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            bytes = rest;
            let room = LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&some[..some.len().min(room)]);
            if self.part == Part::Between && !self.line.trim_ascii().is_empty() {
                self.part = Part::Head;
            }
            if end.is_some() {
                self.part = self.after_line();
                self.line.clear();
            }
        }
    }

    fn after_line(&mut self) -> Part {
        let line = self.line.trim_ascii();
        match self.part {
            Part::Head if line.is_empty() => match std::mem::take(&mut self.body) {
                Body::Length(0) | Body::None => Part::Between,
                Body::Length(length) => Part::Bytes(length, false),
                Body::Chunked => Part::ChunkSize,
            },
            Part::Head => {
                self.body = body_after(line).unwrap_or(self.body);
                Part::Head
            }
            Part::ChunkSize => match chunk_size(line) {
                0 => Part::Trailers,
                // With the end of its line.
                size => Part::Bytes(size.saturating_add(2), true),
            },
            Part::Trailers if line.is_empty() => Part::Between,
            part => part,
        }
    }
}

/// What this line of a head says of the body.
fn body_after(line: &[u8]) -> Option<Body> {
    let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    if name.eq_ignore_ascii_case("content-length") {
        return Some(Body::Length(value.trim().parse().ok()?));
    }
    name.eq_ignore_ascii_case("transfer-encoding")
        .then_some(Body::Chunked)
}

/// The size of the chunk that a line begins; zero for the last one.
fn chunk_size(line: &[u8]) -> u64 {
    let line = std::str::from_utf8(line).unwrap_or_default();
    let size = line.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(size, 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Framing;

    /// Whether these bytes end in the middle of a head, however they are cut.
    #[track_caller]
    fn check(sent: &str, is_in_head: bool) {
        for size in [1, 2, 3, 7, sent.len().max(1)] {
            let mut framing = Framing::default();
            for bytes in sent.as_bytes().chunks(size) {
                framing.came(bytes);
            }
            assert_eq!(framing.is_in_head(), is_in_head, "{sent:?} by {size}");
        }
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        check("", false);
        check("G", true);
        check("GET / HTTP/1.1\r\nhost: a\r\n", true);
        check("GET / HTTP/1.1\r\nhost: a\r\n\r\n", false);
        check("GET / HTTP/1.1\nhost: a\n\n", false);
        check("\r\n\r\n", false);
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(1000));
        check(&long, true);
        check(&format!("{long}\r\nG"), true);
        check(&format!("{long}\r\n"), false);
    }

    #[test]
    fn a_body_is_no_head() {
        let head = "POST / HTTP/1.1\r\nContent-Length: 5\r\nhost: a\r\n\r\n";
        check(head, false);
        check(&format!("{head}G\r\nET"), false);
        check(&format!("{head}G\r\nETG"), true);
        check(&format!("{head}{head}"), false);
        check(&format!("{head}12345{head}1234"), false);
        check(&format!("{head}12345{head}12345P"), true);
        let empty = "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n";
        check(&format!("{empty}P"), true);
    }

    #[test]
    fn chunks_are_no_heads() {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        check(&format!("{head}5;a=b\r\nG\r\nET\r\n"), false);
        let whole = format!("{head}5\r\n12345\r\nA\r\n1234567890\r\n0\r\n");
        check(&whole, false);
        check(&format!("{whole}\r\n"), false);
        check(&format!("{whole}\r\nP"), true);
        check(&format!("{whole}checksum: 1\r\n"), false);
        check(&format!("{whole}checksum: 1\r\n\r\nP"), true);
    }

    #[test]
    fn nonsense_does_no_harm() {
        for line in [
            "content-length: -1",
            "content-length: 99999999999999999999",
            ":",
            "\u{e9}",
        ] {
            check(&format!("POST / HTTP/1.1\r\n{line}\r\n\r\n"), false);
        }
        let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        check(&format!("{chunked}ffffffffffffffff\r\n1"), false);
        check(&format!("{chunked}x\r\n\r\n"), false);
    }
}
