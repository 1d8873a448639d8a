//! The switch: every request, of whatever transport, is told apart here by key and version.

use crate::api;
use crate::broker::Broker;
use crate::budget::BytePermit;
use crate::disk::{Disk, MayWait};
use crate::image::{ApiRange, Lane};
use crate::request::context::RequestContext;
use crate::request::control_queue::ControlRequest;
use crate::request::response::{Answer, Outcome, Reply, ReplySink};
use bytes::Bytes;
use fastlog_log::Log;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::header::RequestHeader;
use fastlog_protocol::primitives::{ProtocolError, REQUEST_ELEMENTS_MAX, Reader, Writer};
use std::cell::Cell;
use std::sync::Arc;

/// A request for the control plane that is larger than this is not taken while memory is short.
const SMALL_REQUEST_BYTES: usize = 256 << 10;

/// A request on its way to the code of its API.
pub(crate) struct Incoming<'a, 'r> {
    pub(crate) context: &'a RequestContext,
    pub(crate) header: RequestHeader<'a>,
    /// Header and body.
    pub(crate) request: &'a [u8],
    /// Where the body begins in `request`.
    pub(crate) body_offset: usize,
    /// Makes the way back for an answer that comes later.
    pub(crate) reply: &'r mut dyn FnMut() -> Reply,
    /// For which disks this thread may wait.
    pub(crate) may_wait: MayWait,
    /// One that it would have had to wait for.
    pub(crate) missed: Cell<Option<Disk>>,
}

impl<'a> Incoming<'a, '_> {
    /// A reader of the body.
    pub(crate) fn body(&self) -> Reader<'a> {
        let body = self.request.get(self.body_offset..).unwrap_or_default();
        Reader::with_budget(body, REQUEST_ELEMENTS_MAX)
    }

    /// Looks at a log; None, which is kept in mind, where a disk has to be waited for: [`handle_on`] its thread then.
    pub(crate) fn look<T>(&self, log: &Log, look: impl FnOnce() -> T) -> Option<T> {
        self.may_wait.look(log, look).inspect_err(|disk| self.missed.set(Some(*disk))).ok()
    }
}

/// The APIs that are answered here. Produce is advertised from version 0: librdkafka takes a broker without
/// version 0 for one that cannot do message format 2.
pub(crate) const SERVED: [ApiRange; 6] = [
    ApiRange { key: api_key::PRODUCE, min_version: 3, max_version: 13 },
    ApiRange { key: api_key::FETCH, min_version: 4, max_version: 18 },
    ApiRange { key: api_key::LIST_OFFSETS, min_version: 1, max_version: 11 },
    ApiRange { key: api_key::METADATA, min_version: 0, max_version: 13 },
    ApiRange { key: api_key::API_VERSIONS, min_version: 0, max_version: 4 },
    ApiRange { key: api_key::OFFSET_FOR_LEADER_EPOCH, min_version: 2, max_version: 4 },
];

/// The key of commands between brokers. On the listener for brokers Python takes them out before they come here.
const PEER_COMMAND: i16 = 32_000;

/// Handles one request; see [`Broker::handle`].
pub(crate) fn dispatch(
    broker: &Broker,
    context: &RequestContext,
    request: &[u8],
    reply: &mut dyn FnMut() -> Reply,
) -> Outcome {
    dispatch_where(broker, context, request, reply, broker.may_wait())
}

fn dispatch_where(
    broker: &Broker,
    context: &RequestContext,
    request: &[u8],
    reply: &mut dyn FnMut() -> Reply,
    may_wait: MayWait,
) -> Outcome {
    let mut reader = Reader::new(request);
    let header = match RequestHeader::decode(&mut reader) {
        Ok(header) => header,
        Err(error) => return Outcome::Close(format!("a request header does not parse: {error}")),
    };
    let (key, version) = (header.api_key, header.api_version);
    let body_offset = reader.position();
    let missed = Cell::default();
    let mut incoming = Incoming { context, header, request, body_offset, reply, may_wait, missed };
    let handled = if key == api_key::API_VERSIONS {
        api::api_versions::handle(broker, &incoming)
    } else if SERVED.iter().any(|range| range.key == key && range.contains(version)) {
        handle_here(broker, &mut incoming)
    } else if let Some(lane) = broker.image.load().lane(key, version) {
        Ok(enqueue(broker, &mut incoming, lane))
    } else if key == PEER_COMMAND && !context.listener.inter_broker {
        refuse_command(incoming.header.correlation_id)
    } else {
        return Outcome::Close(format!("{} version {version} is not served", name(key)));
    };
    handled.unwrap_or_else(|error| {
        Outcome::Close(format!("a {} version {version} request does not parse: {error}", name(key)))
    })
}

fn handle_here(broker: &Broker, incoming: &mut Incoming<'_, '_>) -> Result<Outcome, ProtocolError> {
    match incoming.header.api_key {
        api_key::PRODUCE => api::produce::handle(broker, incoming),
        api_key::FETCH => api::fetch::handle(broker, incoming),
        api_key::LIST_OFFSETS => api::list_offsets::handle(broker, incoming),
        api_key::METADATA => api::metadata::handle(broker, incoming),
        _ => api::offset_for_leader_epoch::handle(broker, incoming),
    }
}

/// A command is only for the listener for brokers: its error, without a text.
fn refuse_command(correlation_id: i32) -> Result<Outcome, ProtocolError> {
    let mut writer = Writer::with_capacity(8);
    writer.i32(correlation_id);
    writer.i16(ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0);
    writer.string("", false)?;
    Ok(Outcome::Now(writer.into_bytes().into()))
}

/// Leaves the request to the control plane.
pub(crate) fn enqueue(broker: &Broker, incoming: &mut Incoming<'_, '_>, lane: Lane) -> Outcome {
    if incoming.request.len() > SMALL_REQUEST_BYTES && broker.budget().is_exhausted() {
        return Outcome::Close("queued.max.request.bytes is used up, and the request is large".to_owned());
    }
    let header = &incoming.header;
    let request = ControlRequest {
        context: incoming.context.clone(),
        api_key: header.api_key,
        api_version: header.api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id.map(str::to_owned),
        request: Bytes::copy_from_slice(incoming.request),
        body_offset: incoming.body_offset,
        reply: (incoming.reply)(),
        permit: broker.budget().charge(incoming.request.len()),
    };
    // a full queue has closed the connection by way of the reply
    broker.queue(lane).push(request);
    Outcome::Later { exclusive: true }
}

/// Answers a Metadata request that the control plane was given, now that it has made what topics it could.
pub(crate) fn answer_metadata(broker: &Broker, request: ControlRequest) {
    let ControlRequest { context, request, body_offset, reply, .. } = request;
    let mut reader = Reader::new(&request);
    let outcome = RequestHeader::decode(&mut reader).and_then(|header| {
        // the way back is in hand already: none is made
        let mut none = || Reply::new(Box::new(NoSink));
        let incoming = Incoming {
            context: &context,
            header,
            request: &request,
            body_offset,
            reply: &mut none,
            may_wait: broker.may_wait(),
            missed: Cell::default(),
        };
        api::metadata::answer(broker, &incoming)
    });
    match outcome {
        Ok(Outcome::Now(response)) => reply.send(response),
        other => reply.close(format!("a METADATA request could not be answered: {other:?}")),
    }
}

/// A request that a disk's thread handles once more, from its start: one that only looks.
struct Again {
    broker: Arc<Broker>,
    context: RequestContext,
    request: Vec<u8>,
    reply: Reply,
    may_wait: MayWait,
    _permit: BytePermit,
}

/// Leaves a request that only looks to the thread of the disk that it has to wait for.
pub(crate) fn handle_on(disk: Disk, broker: &Broker, incoming: &mut Incoming<'_, '_>) -> Outcome {
    let Some(this) = broker.this() else { return Outcome::Close("the broker is going".to_owned()) };
    let again = Again {
        broker: this,
        context: incoming.context.clone(),
        request: incoming.request.to_vec(),
        reply: (incoming.reply)(),
        may_wait: incoming.may_wait.and_for(disk),
        _permit: broker.budget().charge(incoming.request.len()),
    };
    // what cannot be asked for is dropped with the reply, which ends the connection
    let _refused = broker.disks().ask_short(disk, Box::new(move || again.run()));
    Outcome::Later { exclusive: false }
}

impl Again {
    fn run(self) {
        let Self { broker, context, request, reply, may_wait, _permit } = self;
        if !reply.is_open() {
            return;
        }
        let mut left = Some(reply);
        let mut take = || left.take().unwrap_or_else(|| Reply::new(Box::new(NoSink)));
        let outcome = dispatch_where(&broker, &context, &request, &mut take, may_wait);
        let Some(reply) = left else { return };
        match outcome {
            Outcome::Now(response) => reply.send(response),
            Outcome::NoResponse => reply.send_nothing(),
            Outcome::Close(reason) => reply.close(reason),
            Outcome::Later { .. } => reply.close("an answer that comes later has no way back".to_owned()),
        }
    }
}

struct NoSink;

impl ReplySink for NoSink {
    fn answer(&mut self, _: Answer) {}

    fn is_open(&self) -> bool {
        false
    }
}

fn name(key: i16) -> String {
    api_key::name(key).map_or_else(|| format!("API key {key}"), str::to_owned)
}
