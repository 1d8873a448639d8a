//! One broker's thread: rounds of Fetch, one after the other, over one connection that is made again when it breaks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::error::FetchError;
use crate::fetcher::{BrokerAddress, Shared};
use crate::opening;
use crate::session::Session;
use crate::table::{Landed, Round};
use crate::wire;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::header::read_response_header;
use fastlog_protocol::messages::fetch::FetchResponse;
use fastlog_protocol::primitives::{ProtocolError, Reader};

/// A round that brought nothing and took less is followed by a pause: its broker does not hold requests.
const HASTY: Duration = Duration::from_millis(2);
const HASTY_PAUSE: Duration = Duration::from_millis(5);
/// The longest that a broker's throttling is obeyed at once.
const THROTTLE_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Worker {
    shared: Arc<Shared>,
    broker_id: i32,
    link: Option<Link>,
    failures: u32,
}

/// A connection with what was agreed on it.
struct Link {
    connection: Connection,
    address: BrokerAddress,
    lowest: i16,
    highest: i16,
    session: Session,
    correlation_id: i32,
    /// whether it has answered a fetch yet
    proven: bool,
}

/// What a round came to.
struct Answer {
    landed: Vec<Landed>,
    throttle: Duration,
}

impl Worker {
    /// Starts the thread; false if the system has none to give, and the next call tries again.
    pub(crate) fn start(shared: Arc<Shared>, broker_id: i32) -> bool {
        let worker = Self { shared, broker_id, link: None, failures: 0 };
        std::thread::Builder::new()
            .name(format!("fastlog-fetch-{broker_id}"))
            .spawn(move || worker.run())
            .inspect_err(|error| tracing::error!(broker_id, %error, "cannot start a fetch thread"))
            .is_ok()
    }

    fn run(mut self) {
        while let Some((round, address)) = self.shared.wait_for_round(self.broker_id) {
            let started = Instant::now();
            match self.exchange(&round, &address) {
                Ok(answer) => self.answered(answer, started),
                Err(error) => self.failed(error, &address),
            }
        }
    }

    fn answered(&mut self, answer: Answer, started: Instant) {
        self.failures = 0;
        let nothing = !answer.landed.iter().any(|landed| matches!(landed, Landed::Data { .. }));
        self.shared.land(self.broker_id, answer.landed);
        if !answer.throttle.is_zero() {
            self.shared.rest(answer.throttle.min(THROTTLE_MAX));
        } else if nothing && started.elapsed() < HASTY {
            self.shared.rest(HASTY_PAUSE);
        }
    }

    fn failed(&mut self, error: FetchError, address: &BrokerAddress) {
        let idle_end = matches!(error, FetchError::Disconnected { .. })
            && self.link.take().is_some_and(|link| link.proven);
        self.link = None;
        if idle_end || !self.shared.wants(address) {
            // a broker ends connections that were idle for long: not worth a word
            return;
        }
        self.failures += 1;
        tracing::debug!(broker_id = self.broker_id, %error, failures = self.failures, "fetch failed");
        self.shared.failed(self.broker_id, error);
        self.shared.rest(self.shared.options.backoff_after(self.failures));
    }

    fn exchange(&mut self, round: &Round, address: &BrokerAddress) -> Result<Answer, FetchError> {
        if self.link.as_ref().is_some_and(|link| link.address != *address) {
            self.link = None;
        }
        let link = match &mut self.link {
            Some(link) => link,
            empty => empty.insert(Link::open(&self.shared, address)?),
        };
        link.fetch(&self.shared, round)
    }
}

impl Link {
    fn open(shared: &Shared, address: &BrokerAddress) -> Result<Self, FetchError> {
        let options = &shared.options;
        let deadline = Instant::now() + options.connect_timeout;
        let mut connection =
            Connection::connect(&address.host, address.port, deadline, options.response_bytes_max(), |s| {
                shared.show_socket(address, s)
            })?;
        let asked = Instant::now() + options.request_timeout;
        let place = connection.address().to_owned();
        let frame =
            wire::api_versions_frame(0, &options.client_id).map_err(|error| malformed(&place, &error))?;
        let (code, versions) = wire::fetch_versions(connection.call_impatiently(
            &frame,
            asked,
            options.silence,
            &|silence| shared.silent(address.broker_id, silence),
        )?)
        .map_err(|error| malformed(&place, &error))?;
        if code != 0 {
            return Err(FetchError::Refused { address: place, api: "ApiVersions", code: ErrorCode(code) });
        }
        let (theirs_lowest, theirs_highest) = versions.unwrap_or((0, -1));
        let (lowest, highest) =
            (theirs_lowest.max(wire::FETCH_LOWEST), theirs_highest.min(wire::FETCH_HIGHEST));
        if lowest > highest {
            return Err(FetchError::UnsupportedVersion {
                address: place,
                lowest: theirs_lowest,
                highest: theirs_highest,
                our_lowest: wire::FETCH_LOWEST,
                our_highest: wire::FETCH_HIGHEST,
            });
        }
        let session = Session::default();
        let address = address.clone();
        Ok(Self { connection, address, lowest, highest, session, correlation_id: 0, proven: false })
    }

    fn fetch(&mut self, shared: &Shared, round: &Round) -> Result<Answer, FetchError> {
        let version = self.version_for(round)?;
        let plan = self.session.plan(&round.wanted, version >= wire::FETCH_TOPIC_IDS_FROM);
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let place = self.connection.address().to_owned();
        let frame = wire::fetch_frame(round, &plan, &shared.options, version, self.correlation_id)
            .map_err(|error| malformed(&place, &error))?;
        let deadline = Instant::now() + shared.options.request_timeout + round.wait_max;
        let patience = round.wait_max + shared.options.silence;
        let silent = |silence| shared.silent(self.address.broker_id, silence);
        let mut r = Reader::new(self.connection.call_impatiently(&frame, deadline, patience, &silent)?);
        let response = read(&mut r, version, self.correlation_id, &place)?;
        self.proven = true;
        let throttle = Duration::from_millis(u64::try_from(response.throttle_time_ms).unwrap_or(0));
        let code = ErrorCode(response.error_code);
        if code.0 != 0 {
            return self.session_error(code, throttle);
        }
        let landed = opening::land(&response, &self.session, &shared.options, round.bytes_max);
        self.session.answered(response.session_id);
        Ok(Answer { landed, throttle })
    }

    /// The highest version that both sides have; one without topic ids where a partition's id is not known.
    fn version_for(&self, round: &Round) -> Result<i16, FetchError> {
        if round.wanted.iter().all(|one| !one.target.topic_id.is_nil()) {
            return Ok(self.highest);
        }
        let version = self.highest.min(wire::FETCH_TOPIC_IDS_FROM - 1);
        if version >= self.lowest {
            return Ok(version);
        }
        Err(FetchError::UnsupportedVersion {
            address: self.connection.address().to_owned(),
            lowest: self.lowest,
            highest: self.highest,
            our_lowest: wire::FETCH_LOWEST,
            our_highest: version,
        })
    }

    /// Begins a new session where the broker lost the old one; anything else is a failure.
    fn session_error(&mut self, code: ErrorCode, throttle: Duration) -> Result<Answer, FetchError> {
        match code {
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND => self.session.lost(),
            ErrorCode::INVALID_FETCH_SESSION_EPOCH | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR => {
                self.session.restart();
            }
            _ => {
                let address = self.connection.address().to_owned();
                return Err(FetchError::Refused { address, api: "Fetch", code });
            }
        }
        Ok(Answer { landed: Vec::new(), throttle })
    }
}

fn read<'a>(
    r: &mut Reader<'a>,
    version: i16,
    correlation_id: i32,
    place: &str,
) -> Result<FetchResponse<'a>, FetchError> {
    let answered =
        read_response_header(r, api_key::FETCH, version).map_err(|error| malformed(place, &error))?;
    if answered != correlation_id {
        return Err(FetchError::Malformed {
            address: place.to_owned(),
            reason: format!("it answers request {answered}, asked was {correlation_id}"),
        });
    }
    FetchResponse::decode(r, version).map_err(|error| malformed(place, &error))
}

fn malformed(place: &str, error: &ProtocolError) -> FetchError {
    FetchError::Malformed { address: place.to_owned(), reason: error.to_string() }
}
