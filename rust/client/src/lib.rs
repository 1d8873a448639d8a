//! The SDK's fetcher: connection, fetch, CRC and decompression without the GIL
