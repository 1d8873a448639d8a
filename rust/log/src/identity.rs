//! Identifiers as Kafka writes them: 128 bits as 22 characters of base64url.

use std::hash::{BuildHasher, Hasher, RandomState};

use uuid::{Builder, Uuid};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A new random identifier (version 4). The randomness is that of the standard library's hash keys, which come from the
/// operating system: enough for telling incarnations apart, not for secrets.
pub fn random_uuid() -> Uuid {
    let word = || RandomState::new().build_hasher().finish().to_be_bytes();
    let mut bytes = [0; 16];
    let (high, low) = bytes.split_at_mut(8);
    high.copy_from_slice(&word());
    low.copy_from_slice(&word());
    Builder::from_random_bytes(bytes).into_uuid()
}

/// As Kafka writes a topic id: base64url without padding.
pub fn to_base64(id: Uuid) -> String {
    let mut text = String::with_capacity(22);
    for chunk in id.as_bytes().chunks(3) {
        let mut bits = 0u32;
        for place in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(place).copied().unwrap_or(0));
        }
        for digit in 0..=chunk.len() {
            let index = bits >> (18 - 6 * digit) & 63;
            text.push(char::from(ALPHABET.get(index as usize).copied().unwrap_or(b'A')));
        }
    }
    text
}

/// The identifier that [`to_base64`] wrote; `None` for any other text.
pub fn from_base64(text: &str) -> Option<Uuid> {
    if text.len() != 22 {
        return None;
    }
    // 22 digits are 132 bits, of which the last 4 are padding
    let mut bits = 0u128;
    for (place, character) in text.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|known| *known == character)? as u128;
        bits = if place < 21 { bits << 6 | digit } else { bits << 2 | digit >> 4 };
    }
    Some(Uuid::from_u128(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_kafkas() {
        // as org.apache.kafka.common.Uuid writes them
        assert_eq!(to_base64(Uuid::from_u128(0)), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(to_base64(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(to_base64(Uuid::from_u128(u128::MAX)), "_____________________w");
    }

    #[test]
    fn what_is_written_reads_back() {
        for _ in 0..100 {
            let id = random_uuid();
            assert_eq!(from_base64(&to_base64(id)), Some(id));
        }
        assert_ne!(random_uuid(), random_uuid());
        for bad in ["", "AAAA", "AAAAAAAAAAAAAAAAAAAAA+", "AAAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(from_base64(bad), None);
        }
    }
}
