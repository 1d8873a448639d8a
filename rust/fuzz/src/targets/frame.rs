//! A TCP connection: bytes in arbitrary pieces. Whatever the pieces, the frames handed in are those that lie in the
//! bytes, up to the first that ends the connection, and their answers come out in their order, each once.
//!
//! Input: number of pieces' lengths, the lengths, the order of late answers, the bytes. What becomes of a frame follows
//! from its API key: answered at once, late (with or without other frames meanwhile), never, or not at all because the
//! connection ends.

use crate::input::Input;
use crate::requests;
use fastlog_broker::{ByteBudget, DiskThreads, Events, Outcome, Reply, RequestContext, Response, Wakeup};
use fastlog_protocol::header::RequestHeader;
use fastlog_protocol::primitives::Reader;
use fastlog_server::fuzzing::Wire;
use fastlog_server::{Handler, ServerConfig};
use std::sync::{Arc, Mutex};

/// Small, so that frames are soon too large.
const FRAME_BYTES_MAX: usize = 1000;
const IN_FLIGHT_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Unanswered,
    Late,
    LateAndAlone,
    Closes,
}

fn fate(frame: &[u8]) -> Fate {
    let Ok(header) = RequestHeader::decode(&mut Reader::new(frame)) else { return Fate::Closes };
    match header.api_key {
        1 => Fate::Late,
        2 => Fate::Unanswered,
        19 => Fate::LateAndAlone,
        key if key < 0 => Fate::Closes,
        _ => Fate::Answered,
    }
}

/// Notes the frames that are handed in, and answers with the bytes of the request.
struct Recorder {
    budget: Arc<ByteBudget>,
    disks: Arc<DiskThreads>,
    events: Events,
    frames: Mutex<Vec<Vec<u8>>>,
    late: Mutex<Vec<(Reply, Vec<u8>)>>,
}

impl Handler for Recorder {
    fn handle(&self, _: &RequestContext, request: &[u8], reply: &mut dyn FnMut() -> Reply) -> Outcome {
        self.frames.lock().unwrap().push(request.to_vec());
        match fate(request) {
            Fate::Answered => Outcome::Now(Response::from(request.to_vec())),
            Fate::Unanswered => Outcome::NoResponse,
            Fate::Closes => Outcome::Close("it says so".to_owned()),
            late => {
                self.late.lock().unwrap().push((reply(), request.to_vec()));
                Outcome::Later { exclusive: late == Fate::LateAndAlone }
            }
        }
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn budget(&self) -> &Arc<ByteBudget> {
        &self.budget
    }

    fn disks(&self) -> &Arc<DiskThreads> {
        &self.disks
    }
}

impl Recorder {
    fn new() -> Self {
        Self {
            budget: ByteBudget::new(usize::MAX),
            disks: DiskThreads::new(),
            events: Events::new(8, Arc::new(Wakeup::new().unwrap())),
            frames: Mutex::default(),
            late: Mutex::default(),
        }
    }

    /// Gives one of the late answers; false = there is none.
    fn answer_one(&self, which: usize) -> bool {
        let mut late = self.late.lock().unwrap();
        if late.is_empty() {
            return false;
        }
        let place = which % late.len();
        let (reply, request) = late.swap_remove(place);
        drop(late);
        reply.send(Response::from(request));
        true
    }
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let lengths: Vec<usize> = (0..input.choice(8)).map(|_| usize::from(input.u16()) % 2000).collect();
    let order = input.take(3);
    let bytes = input.rest();

    let recorder = Recorder::new();
    let answers = converse(&recorder, bytes, &lengths, order);
    let (expected, answered) = expected(bytes);
    assert_eq!(*recorder.frames.lock().unwrap(), expected, "the frames that were handed in");
    assert_eq!(answers, answered, "the answers");
    assert_eq!(recorder.budget.used_bytes(), 0, "what a connection held is given back");
}

/// Sends the bytes in pieces and returns all that is answered.
fn converse(recorder: &Recorder, bytes: &[u8], lengths: &[usize], order: &[u8]) -> Vec<u8> {
    let config = ServerConfig {
        request_bytes_max: FRAME_BYTES_MAX,
        in_flight_max: IN_FLIGHT_MAX,
        ..ServerConfig::default()
    };
    let mut wire = Wire::new(recorder, config).unwrap();
    let mut order = order.iter().cycle().map(|which| usize::from(*which));
    let mut answers = Vec::new();
    let mut rest = bytes;
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        wire.send(piece, &mut answers).unwrap();
        recorder.answer_one(order.next().unwrap_or_default());
    }
    wire.run(&mut answers).unwrap();
    while recorder.answer_one(order.next().unwrap_or_default()) {
        wire.run(&mut answers).unwrap();
    }
    wire.finish(&mut answers).unwrap();
    assert!(!wire.is_open(), "the peer has ended, and nothing is left to answer");
    answers
}

/// The frames that lie in the bytes, up to one that ends the connection, and the bytes that answer them.
fn expected(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut frames, mut answers) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    while let [a, b, c, d, after @ ..] = rest {
        let length = i32::from_be_bytes([*a, *b, *c, *d]);
        let Ok(length) = usize::try_from(length) else { break };
        if length > FRAME_BYTES_MAX || length > after.len() {
            break;
        }
        let frame = &after[..length];
        rest = &after[length..];
        frames.push(frame.to_vec());
        match fate(frame) {
            Fate::Closes => break,
            Fate::Unanswered => {}
            _ => answers.extend([&(length as i32).to_be_bytes(), frame].concat()),
        }
    }
    (frames, answers)
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let framed = |request: &Vec<u8>| [&(request.len() as i32).to_be_bytes(), request.as_slice()].concat();
    let all = requests::all();
    let mut seeds: Vec<_> = all.iter().map(|request| [vec![0, 0, 0, 0], framed(request)].concat()).collect();
    let stream = Vec::from_iter(all.iter().flat_map(framed));
    seeds.push([vec![0, 1, 2, 3], stream.clone()].concat());
    seeds.push([vec![4, 0, 3, 0, 70, 1, 0, 0, 1, 2, 1, 0], stream].concat());
    // a frame that is too large, one of the largest size, and one that never comes
    seeds.push([vec![0, 0, 0, 0], 1001i32.to_be_bytes().to_vec()].concat());
    seeds.push([vec![0, 0, 0, 0], 1000i32.to_be_bytes().to_vec(), vec![0; 1000]].concat());
    seeds.push([vec![1, 0, 2, 0, 0, 0], i32::MAX.to_be_bytes().to_vec()].concat());
    seeds
}
