//! CRC-32C (Castagnoli), the checksum of record batches.

/// The CRC-32C of `bytes`, as Kafka's `Crc32C` and RFC 3720 have it.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC-32C of `head` followed by `tail`, without joining them: the broker patches a copy of a batch's
/// header and leaves the records where they are.
#[must_use]
pub fn crc32c_of_parts(head: &[u8], tail: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(head);
    digest.update(tail);
    // the digest is 64 bits wide for every algorithm; a 32-bit one fills the lower half
    (digest.finalize() & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::{crc32c, crc32c_of_parts};

    #[test]
    fn known_vectors() {
        assert_eq!(crc32c(b""), 0);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, B.4: 32 bytes of zeros, of ones, and counting up
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&up), 0x46dd_794e);
    }

    #[test]
    fn parts_equal_the_whole() {
        let bytes: Vec<u8> = (0..5000u32).map(|n| (n * 31 % 251) as u8).collect();
        for cut in [0, 1, 40, 61, 4096, 5000] {
            let (head, tail) = bytes.split_at(cut);
            assert_eq!(crc32c_of_parts(head, tail), crc32c(&bytes));
        }
    }
}
