//! Choices and bytes out of what the fuzzer made up. Where it made up too little, what is missing is zero.

/// What is left of an input.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// Big-endian, like all of Kafka's numbers.
    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// One of `count` things, which must not be 0.
    pub(crate) fn choice(&mut self, count: usize) -> usize {
        usize::from(self.u8()) % count
    }

    /// The next `length` bytes, or as many as there are.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes with their length before them.
    pub(crate) fn counted(&mut self) -> &'a [u8] {
        let length = self.u16();
        self.take(length.into())
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }
}

/// What [`Input::counted`] reads as `bytes`, for seeds.
pub(crate) fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    [&length.to_be_bytes(), bytes].concat()
}
