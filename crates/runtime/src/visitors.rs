//! Those who come to look at a node, over plain HTTP that only reads.
//!
//! They prove nothing of themselves, so what they may cost is bounded: so many at a time, each with so many bytes of
//! questions and for so long. Whoever comes while all places are taken waits in the operating system's queue, which is
//! bounded, too, until one is free. Nobody keeps a place, as a connection ends when its time is over, whatever it does.

use axum::Router;
use axum::serve::Listener;
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// What visitors may cost.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at a time.
    visitors: usize,
    /// How long a connection may last, from the first byte to the last.
    lifetime: Duration,
    /// Bytes that a connection may bring before it is ended. One read more may have been taken in by then.
    request_bytes: usize,
}

/// Few people and programs look at a node, and what they ask is short.
const LIMITS: Limits =
    Limits { visitors: 32, lifetime: Duration::from_secs(10), request_bytes: 16 << 10 };

/// How long to wait when the operating system gives no connection: it lacks something, which may come back.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves the router to whoever comes, within limits, until it is dropped.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve_visitors(listener: TcpListener, router: Router) -> io::Result<()> {
    axum::serve(Door::new(listener, LIMITS), router).await
}

/// Lets so many in at a time.
struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    limits: Limits,
}

impl Door {
    fn new(listener: TcpListener, limits: Limits) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(limits.visitors)), limits }
    }
}

impl Listener for Door {
    type Io = Visitor;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visitor, SocketAddr) {
        loop {
            let Ok(place) = self.places.clone().acquire_owned().await else {
                // The places are never closed.
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let visitor = Visitor {
                        stream,
                        left: self.limits.request_bytes,
                        end: Box::pin(sleep(self.limits.lifetime)),
                        _place: place,
                    };
                    return (visitor, address);
                }
                Err(error) => {
                    tracing::debug!("nobody can look at the node for now: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that has its time and its bytes.
struct Visitor {
    stream: TcpStream,
    left: usize,
    end: Pin<Box<Sleep>>,
    /// Free again when the connection ends.
    _place: OwnedSemaphorePermit,
}

impl Visitor {
    /// An error once its time is over. Whoever asked is woken then.
    fn is_over(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.is_over(context)?;
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_over(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_over(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_over(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn open(limits: Limits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/", get(async || "hello"));
        tokio::spawn(async move { axum::serve(Door::new(listener, limits), router).await });
        address
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            tokio::time::timeout(Duration::from_secs(60), test).await.unwrap();
        });
    }

    /// All that comes until the other end closes, however it does.
    async fn rest(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn idle_visitors_keep_others_out_for_their_time_only() {
        run(async {
            let limits = Limits { visitors: 2, lifetime: Duration::from_millis(300), ..LIMITS };
            let address = open(limits).await;
            let mut idle = TcpStream::connect(address).await.unwrap();
            let mut half = TcpStream::connect(address).await.unwrap();
            half.write_all(&QUESTION[..9]).await.unwrap();
            let mut asker = TcpStream::connect(address).await.unwrap();
            asker.write_all(QUESTION).await.unwrap();
            let answer = rest(&mut asker).await;
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
            assert_eq!(rest(&mut idle).await, "");
            assert!(!rest(&mut half).await.contains("200"));
        });
    }

    #[test]
    fn endless_questions_end() {
        run(async {
            let address = open(Limits { lifetime: Duration::from_secs(3600), ..LIMITS }).await;
            for start in
                ["GET / HTTP/1.1\r\nx: ", "POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"]
            {
                let mut endless = TcpStream::connect(address).await.unwrap();
                endless.write_all(start.as_bytes()).await.unwrap();
                // Writing fails once the other end has closed.
                while endless.write_all(&[b'a'; 4096]).await.is_ok() {}
            }
            let mut asker = TcpStream::connect(address).await.unwrap();
            asker.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
            assert!(rest(&mut asker).await.ends_with("hello"));
        });
    }

    #[test]
    fn whoever_does_not_read_the_answers_loses_its_place() {
        run(async {
            let limits = Limits {
                visitors: 1,
                lifetime: Duration::from_millis(300),
                request_bytes: usize::MAX,
            };
            let address = open(limits).await;
            let mut deaf = TcpStream::connect(address).await.unwrap();
            while deaf.write_all(&QUESTION.repeat(100)).await.is_ok() {}
            let mut asker = TcpStream::connect(address).await.unwrap();
            asker.write_all(QUESTION).await.unwrap();
            assert!(rest(&mut asker).await.ends_with("hello"));
        });
    }
}
