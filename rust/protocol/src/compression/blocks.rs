//! Pieces of any size as blocks of one size, for the codecs that compress block by block.

use super::CompressionError;

/// Keeps the bytes that do not fill a block yet.
pub(super) struct Blocks {
    size: usize,
    held: Vec<u8>,
}

impl Blocks {
    /// For blocks of `size` bytes.
    pub(super) fn of(size: usize) -> Self {
        Self { size, held: Vec::with_capacity(size) }
    }

    /// Calls `compress` with each block that is full.
    pub(super) fn write(
        &mut self,
        mut input: &[u8],
        mut compress: impl FnMut(&[u8]) -> Result<(), CompressionError>,
    ) -> Result<(), CompressionError> {
        while !input.is_empty() {
            let (head, rest) = input.split_at(input.len().min(self.size - self.held.len()));
            self.held.extend_from_slice(head);
            input = rest;
            if self.held.len() == self.size {
                compress(&self.held)?;
                self.held.clear();
            }
        }
        Ok(())
    }

    /// Calls `compress` with what is left.
    pub(super) fn finish(
        &mut self,
        mut compress: impl FnMut(&[u8]) -> Result<(), CompressionError>,
    ) -> Result<(), CompressionError> {
        if self.held.is_empty() { Ok(()) } else { compress(&self.held) }
    }
}
