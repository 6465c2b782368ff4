//! As much of HTTP as it takes to ask one question.

use crate::failure::plain;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes of an answer. A longer one is none.
const ANSWER: u64 = 1 << 20;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(2);

/// The body of the answer to a GET. The error is a clause about whoever was asked.
pub(super) async fn get(address: &str, path: &str) -> Result<Vec<u8>, String> {
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
    let mut stream = match connected {
        Err(_) => return Err(format!("{address} does not answer")),
        Ok(Err(error)) => return Err(format!("{address}: {}", plain(&error))),
        Ok(Ok(stream)) => stream,
    };
    let broken = |error: std::io::Error| format!("{address}: {}", plain(&error));
    // HTTP/1.0 has no chunks, and the answer ends with the connection.
    let question =
        format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(question.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer).await.map_err(broken)?;
    body(&answer).ok_or_else(|| format!("{address} gives no status"))
}

/// The body of a whole answer that says 200.
fn body(answer: &[u8]) -> Option<Vec<u8>> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = answer.split_at(end + 4);
    let first = head.split(|byte| *byte == b'\r').next()?;
    let mut words = first.split(|byte| *byte == b' ');
    let is_http = words.next()?.starts_with(b"HTTP/1.");
    (is_http && words.next()? == b"200").then(|| body.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_with_200_has_a_body() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\na: b\r\n\r\n{}"), Some(b"{}".to_vec()));
        assert_eq!(body(b"HTTP/1.0 200\r\n\r\n"), Some(Vec::new()));
        for answer in [
            b"".as_slice(),
            b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}",
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(body(answer), None);
        }
    }
}
