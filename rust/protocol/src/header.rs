//! Request and response headers, whose version follows from the API's key and version.

use crate::api_key;
use crate::primitives::{ProtocolError, Reader, Writer};

/// What stands before every request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The API.
    pub api_key: i16,
    /// The API's version; nobody has checked yet that it exists.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHeader<'a> {
    /// Reads header version 1, or 2 where the API's version is flexible. An API that is not in the table is read as
    /// version 1, so that the caller can say which one it was.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    pub fn decode(r: &mut Reader<'a>) -> Result<Self, ProtocolError> {
        let api_key = r.i16()?;
        let api_version = r.i16()?;
        let correlation_id = r.i32()?;
        // a non-compact string even in version 2: a broker must be able to read it in a version it does not know
        let client_id = r.nullable_string(false)?;
        if api_key::is_flexible(api_key, api_version) {
            r.skip_tags()?;
        }
        Ok(Self { api_key, api_version, correlation_id, client_id })
    }

    /// Writes header version 1, or 2 where the API's version is flexible.
    ///
    /// # Errors
    /// `TooLong` for a client id above 32,767 bytes.
    pub fn encode(&self, w: &mut Writer) -> Result<(), ProtocolError> {
        w.i16(self.api_key);
        w.i16(self.api_version);
        w.i32(self.correlation_id);
        w.nullable_string(self.client_id, false)?;
        if api_key::is_flexible(self.api_key, self.api_version) {
            w.uvarint(0);
        }
        Ok(())
    }
}

/// The response header's version: 1, with tagged fields, where the API's version is flexible, else 0.
#[must_use]
pub const fn response_header_version(api_key: i16, api_version: i16) -> i16 {
    // ApiVersions stays at 0 (KIP-511): its client does not know yet which versions the broker has
    (api_key != api_key::API_VERSIONS && api_key::is_flexible(api_key, api_version)) as i16
}

/// Writes the header of the response to a request of `api_key` and `api_version`.
pub fn write_response_header(w: &mut Writer, api_key: i16, api_version: i16, correlation_id: i32) {
    w.i32(correlation_id);
    if response_header_version(api_key, api_version) > 0 {
        w.uvarint(0);
    }
}

/// Reads the header of the response to a request of `api_key` and `api_version`: the correlation id.
///
/// # Errors
/// Whatever is wrong with the bytes.
pub fn read_response_header(
    r: &mut Reader<'_>,
    api_key: i16,
    api_version: i16,
) -> Result<i32, ProtocolError> {
    let correlation_id = r.i32()?;
    if response_header_version(api_key, api_version) > 0 {
        r.skip_tags()?;
    }
    Ok(correlation_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(api_key: i16, api_version: i16) -> RequestHeader<'static> {
        RequestHeader { api_key, api_version, correlation_id: 7, client_id: Some("me") }
    }

    fn bytes(header: RequestHeader<'_>) -> Vec<u8> {
        let mut w = Writer::new();
        header.encode(&mut w).unwrap();
        w.into_bytes()
    }

    #[test]
    fn a_flexible_header_has_tags_and_a_plain_client_id() {
        let plain = bytes(header(api_key::PRODUCE, 8));
        assert_eq!(plain, b"\0\0\0\x08\0\0\0\x07\0\x02me");
        let flexible = bytes(header(api_key::PRODUCE, 9));
        assert_eq!(flexible, b"\0\0\0\x09\0\0\0\x07\0\x02me\0");
    }

    #[test]
    fn headers_come_back_and_unknown_apis_can_be_named() {
        for (key, version) in
            [(api_key::PRODUCE, 8), (api_key::PRODUCE, 9), (api_key::API_VERSIONS, 99), (999, 0)]
        {
            let bytes = bytes(header(key, version));
            let mut r = Reader::new(&bytes);
            assert_eq!(RequestHeader::decode(&mut r), Ok(header(key, version)));
            assert_eq!(r.remaining(), 0);
        }
    }

    #[test]
    fn tags_of_a_header_are_skipped() {
        let bytes = b"\0\0\0\x09\0\0\0\x07\xff\xff\x02\x01\x03abc\x63\x00rest";
        let mut r = Reader::new(bytes);
        let read = RequestHeader::decode(&mut r).unwrap();
        assert_eq!(read.client_id, None);
        assert_eq!(r.rest(), b"rest");
    }

    #[test]
    fn the_api_versions_response_header_is_always_version_0() {
        assert_eq!(response_header_version(api_key::API_VERSIONS, 4), 0);
        assert_eq!(response_header_version(api_key::PRODUCE, 9), 1);
        assert_eq!(response_header_version(api_key::PRODUCE, 8), 0);
        assert_eq!(response_header_version(999, 0), 0);
    }
}
