//! How a request is answered: segments of bytes and of files, now or later.

use bytes::Bytes;
use fastlog_log::FileHandle;
use std::fmt;
use std::io;
use std::sync::Arc;

/// A range of a file, sent by sendfile over TCP and read into memory elsewhere.
#[derive(Clone)]
pub struct FileRange {
    /// The file; held open while the range waits to be sent, also when it is deleted meanwhile.
    pub file: Arc<dyn FileHandle>,
    /// Byte in the file.
    pub position: u64,
    /// Number of bytes.
    pub length: usize,
}

impl fmt::Debug for FileRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileRange({} + {})", self.position, self.length)
    }
}

/// A part of a response.
#[derive(Clone, Debug)]
pub enum Segment {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a file.
    File(FileRange),
}

impl Segment {
    /// Number of bytes.
    pub fn size_bytes(&self) -> usize {
        match self {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::File(range) => range.length,
        }
    }
}

/// A whole response: header and body, without the length prefix of a TCP frame.
#[derive(Clone, Debug, Default)]
pub struct Response {
    segments: Vec<Segment>,
}

impl Response {
    /// A response made of `segments`, in order; empty ones are left out.
    pub fn new(segments: Vec<Segment>) -> Self {
        let mut segments = segments;
        segments.retain(|segment| segment.size_bytes() > 0);
        Self { segments }
    }

    /// The segments in order, none of them empty.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segments in order, none of them empty.
    pub fn into_segments(self) -> Vec<Segment> {
        self.segments
    }

    /// Number of bytes in all.
    pub fn size_bytes(&self) -> usize {
        self.segments.iter().map(Segment::size_bytes).sum()
    }

    /// All bytes together, file ranges read. Blocks on the disk. UnexpectedEof when a file became shorter
    /// than its range: the answer must then be dropped.
    pub fn into_bytes(self) -> io::Result<Bytes> {
        if let [Segment::Bytes(only)] = self.segments.as_slice() {
            return Ok(only.clone());
        }
        let mut out = Vec::with_capacity(self.size_bytes());
        for segment in self.segments {
            match segment {
                Segment::Bytes(bytes) => out.extend_from_slice(&bytes),
                Segment::File(range) => read_range(&range, &mut out)?,
            }
        }
        Ok(out.into())
    }
}

impl From<Vec<u8>> for Response {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(vec![Segment::Bytes(bytes.into())])
    }
}

impl From<Bytes> for Response {
    fn from(bytes: Bytes) -> Self {
        Self::new(vec![Segment::Bytes(bytes)])
    }
}

fn read_range(range: &FileRange, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    out.resize(start + range.length, 0);
    let mut rest = out.get_mut(start..).unwrap_or_default();
    let mut position = range.position;
    while !rest.is_empty() {
        let count = range.file.read_at(rest, position)?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the log file ends at {position}, {} bytes before the end of the answer", rest.len()),
            ));
        }
        position += count as u64;
        rest = rest.get_mut(count..).unwrap_or_default();
    }
    Ok(())
}

/// What became of a request when [`crate::Broker::handle`] returns.
#[derive(Debug)]
pub enum Outcome {
    /// The answer.
    Now(Response),
    /// The answer comes through the [`Reply`].
    Later {
        /// The connection must not hand in its next request before the answer is there, so that what the
        /// control plane does for one request is seen by the next. Otherwise requests are pipelined.
        exclusive: bool,
    },
    /// The request has no answer (Produce with acks=0).
    NoResponse,
    /// Close the connection, after what was asked before is answered. The text is for the log line.
    Close(String),
}

/// What a [`Reply`] brings.
#[derive(Debug)]
pub enum Answer {
    /// The response.
    Response(Response),
    /// The request has no answer.
    Nothing,
    /// Close the connection. The text is for the log line.
    Close(String),
}

/// A transport's end of a delayed answer.
pub trait ReplySink: Send {
    /// Takes the answer; called once, on any thread; must not block.
    fn answer(&mut self, answer: Answer);
    /// Whether somebody still waits for the answer.
    fn is_open(&self) -> bool;
}

/// The obligation to answer one request. Dropping it closes the connection, since a client that never gets
/// its answer would wait for ever.
pub struct Reply {
    sink: Option<Box<dyn ReplySink>>,
}

impl Reply {
    /// A reply that ends in `sink`.
    pub fn new(sink: Box<dyn ReplySink>) -> Self {
        Self { sink: Some(sink) }
    }

    /// Answers.
    pub fn send(mut self, response: Response) {
        self.finish(Answer::Response(response));
    }

    /// Ends the request without an answer.
    pub fn send_nothing(mut self) {
        self.finish(Answer::Nothing);
    }

    /// Closes the connection; `reason` is for the log line.
    pub fn close(mut self, reason: String) {
        self.finish(Answer::Close(reason));
    }

    /// Whether somebody still waits for the answer.
    pub fn is_open(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.is_open())
    }

    fn finish(&mut self, answer: Answer) {
        if let Some(mut sink) = self.sink.take() {
            sink.answer(answer);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.finish(Answer::Close("the request was given up without an answer".to_owned()));
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.sink.is_some() { "Reply(pending)" } else { "Reply(done)" })
    }
}
