//! Several batches one after the other, as segments and fetch answers hold them.

use super::error::BatchError;
use super::header::BatchHeader;

/// The whole batches in a buffer, as slices; see [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// The bytes not yet given: a partial batch, or what follows a fault.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// The whole batches at the start of `buf`. A partial last one is normal (a fetch may end anywhere) and ends the
/// iteration; bytes that are no batch header give one error and end it. CRCs are not checked.
#[must_use]
pub fn batches(buf: &[u8]) -> Batches<'_> {
    Batches { rest: buf }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<&'a [u8], BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let size = match BatchHeader::parse(self.rest) {
            Ok(header) => header.size_bytes(),
            Err(BatchError::Truncated { .. }) => return None,
            Err(error) => {
                self.rest = &[];
                return Some(Err(error));
            }
        };
        let (batch, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(Ok(batch))
    }
}
