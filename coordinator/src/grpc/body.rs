//! A call's body on its way in: no message is longer than its method's row of `access` says, what is
//! one message comes in time, and few large messages are in memory at once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};
use tributary_proto::fault::{retry_status, status};

use super::access::Bound;

/// A message above this is large: an update's chunks are below it.
const LARGE_BYTES: usize = 2 << 20;
/// Large messages in memory at once: decoded, each can take half a gigabyte.
const LARGE_MAX: usize = 2;
/// When to come again where others send large messages.
const LARGE_AFTER: Duration = Duration::from_secs(1);
/// How long the body of a single message may take, its bytes apart.
const BODY: Duration = Duration::from_secs(20);
/// And for its bytes: the slowest line that is waited for.
const BODY_BYTES_PER_S: usize = 128 << 10;
/// gRPC's own header of a message: a flag and a length.
const PREFIX_BYTES: usize = 5;

/// The places of large messages.
#[derive(Clone)]
pub(super) struct Large(Arc<Semaphore>);

impl Default for Large {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_MAX)))
    }
}

/// A body that ends with a status where it goes beyond its bound.
pub(super) struct Bounded {
    inner: Body,
    bound: Bound,
    deadline: Option<Pin<Box<Sleep>>>,
    large: Large,
    /// Held while a large message comes, is decoded and checked.
    place: Option<OwnedSemaphorePermit>,
    framing: Framing,
    over: bool,
}

impl Bounded {
    pub(super) fn new(inner: Body, bound: Bound, large: Large) -> Self {
        let seconds = (bound.message_bytes / BODY_BYTES_PER_S) as u64;
        let limit = BODY + Duration::from_secs(seconds);
        // An update's stream has a limit for each of its parts.
        let deadline = (!bound.streamed).then(|| Box::pin(tokio::time::sleep(limit)));
        let framing = Framing::default();
        Self { inner, bound, deadline, large, place: None, framing, over: false }
    }

    /// Follows the messages in these bytes.
    fn follow(&mut self, data: &[u8]) -> Result<(), Status> {
        let mut rest = data;
        while let Some(length) = self.framing.next(&mut rest) {
            let most = self.bound.message_bytes;
            if length > most {
                let text = format!("expected a message of at most {most} bytes, found {length}");
                return Err(status(Code::OutOfRange, "message_too_large", text));
            }
            if !self.bound.streamed && self.framing.messages > 1 {
                let text = "expected one message, found another behind it";
                return Err(status(Code::InvalidArgument, "malformed", text));
            }
            self.place = None;
            if length > LARGE_BYTES {
                let place = self.large.0.clone().try_acquire_owned().map_err(|_| {
                    let text = "others send large messages: try again";
                    retry_status(
                        Code::ResourceExhausted,
                        "too_many_large_messages",
                        text,
                        LARGE_AFTER,
                    )
                })?;
                self.place = Some(place);
            }
        }
        Ok(())
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.over = true;
            let text = "the message took too long to come: send it again";
            let late = status(Code::DeadlineExceeded, "request_stalled", text);
            return Poll::Ready(Some(Err(late)));
        }
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            other => return other,
        };
        if let Some(data) = frame.data_ref() {
            let data = data.clone();
            if let Err(refused) = self.follow(&data) {
                self.over = true;
                self.place = None;
                return Poll::Ready(Some(Err(refused)));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Where in gRPC's framing a stream of bytes stands.
#[derive(Default)]
struct Framing {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that came.
    have: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    messages: u64,
}

impl Framing {
    /// The length of the next message that begins in these bytes, which are used up to there.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<usize> {
        let skipped = self.left.min(bytes.len());
        self.left -= skipped;
        *bytes = &bytes[skipped..];
        let take = (PREFIX_BYTES - self.have).min(bytes.len());
        self.prefix[self.have..self.have + take].copy_from_slice(&bytes[..take]);
        self.have += take;
        *bytes = &bytes[take..];
        if self.have < PREFIX_BYTES {
            return None;
        }
        let [_, a, b, c, d] = self.prefix;
        self.have = 0;
        self.left = u32::from_be_bytes([a, b, c, d]) as usize;
        self.messages += 1;
        Some(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::Framing;

    #[test]
    fn messages_are_found_however_the_bytes_are_cut() {
        let mut stream = Vec::new();
        for length in [0_u32, 3, 700, 0, 1] {
            stream.push(0);
            stream.extend(length.to_be_bytes());
            stream.extend(vec![7; length as usize]);
        }
        for piece in [1, 2, 5, 6, 100, stream.len()] {
            let (mut framing, mut found) = (Framing::default(), Vec::new());
            for mut bytes in stream.chunks(piece) {
                while let Some(length) = framing.next(&mut bytes) {
                    found.push(length);
                }
            }
            assert_eq!(found, [0, 3, 700, 0, 1], "in pieces of {piece}");
        }
    }
}
