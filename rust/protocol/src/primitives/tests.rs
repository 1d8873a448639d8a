use super::*;
use proptest::prelude::*;

type Read<T> = Result<T, ProtocolError>;

fn read<'a, const N: usize, T>(bytes: &'a [u8; N], read: impl FnOnce(&mut Reader<'a>) -> Read<T>) -> Read<T> {
    read_slice(bytes, read)
}

fn read_slice<'a, T>(bytes: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Read<T>) -> Read<T> {
    read(&mut Reader::new(bytes))
}

#[test]
fn known_bytes_of_variable_length_numbers() {
    for (value, bytes) in [(0_u32, &b"\0"[..]), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")] {
        assert_eq!(read_slice(bytes, Reader::uvarint), Ok(value));
        let mut w = Writer::new();
        w.uvarint(value);
        assert_eq!(w.as_bytes(), bytes);
    }
    assert_eq!(read(b"\xff\xff\xff\xff\x0f", Reader::uvarint), Ok(u32::MAX));
    assert_eq!(read(b"\x01", Reader::varint), Ok(-1));
    assert_eq!(read(b"\x02", Reader::varint), Ok(1));
}

#[test]
fn variable_length_numbers_beyond_their_type_are_refused() {
    assert_eq!(read(b"\xff\xff\xff\xff\x10", Reader::uvarint), Err(ProtocolError::VarintTooLong { at: 0 }));
    assert_eq!(
        read(b"\x80\x80\x80\x80\x80\x00", Reader::uvarint),
        Err(ProtocolError::VarintTooLong { at: 0 })
    );
    let long = [&[0xff; 9][..], &[0x02]].concat();
    assert_eq!(read_slice(&long, Reader::varlong), Err(ProtocolError::VarintTooLong { at: 0 }));
    let longest = [&[0xff; 9][..], &[0x01]].concat();
    assert_eq!(read_slice(&longest, Reader::varlong), Ok(i64::MIN));
}

#[test]
fn nulls_and_lengths() {
    assert_eq!(read(b"\xff\xff", |r| r.nullable_string(false)), Ok(None));
    assert_eq!(read(b"\0", |r| r.nullable_string(true)), Ok(None));
    assert_eq!(read(b"\0", |r| r.string(true)), Err(ProtocolError::Null { at: 1 }));
    assert_eq!(read(b"\x04abc", |r| r.string(true)), Ok("abc"));
    assert_eq!(
        read(b"\xff\xfe", |r| r.nullable_string(false)),
        Err(ProtocolError::NegativeLength { length: -2, at: 2 })
    );
    assert_eq!(read(b"\0\x01\xff", |r| r.string(false)), Err(ProtocolError::NotUtf8 { at: 3 }));
    assert_eq!(
        read(b"\x7f\xff\xff\xff", |r| r.bytes(false)),
        Err(ProtocolError::Truncated { needed: 0x7fff_ffff, remaining: 0, at: 4 })
    );
}

#[test]
fn a_string_longer_than_kafka_reads_is_neither_written_nor_read_in_any_version() {
    let longest = "x".repeat(STRING_BYTES_MAX);
    for flexible in [false, true] {
        let mut writer = Writer::with_capacity(0);
        writer.string(&longest, flexible).unwrap();
        assert_eq!(
            read_slice(&writer.into_bytes(), |r| r.string(flexible).map(str::len)),
            Ok(STRING_BYTES_MAX)
        );
        let refused = Writer::with_capacity(0).string(&format!("{longest}x"), flexible);
        let (length, limit) = (STRING_BYTES_MAX + 1, STRING_BYTES_MAX);
        assert_eq!(refused, Err(ProtocolError::TooLong { length, limit }));
    }
    let mut longer = vec![0x81, 0x80, 0x02];
    longer.extend_from_slice(longest.as_bytes());
    longer.push(b'x');
    let (length, limit) = (STRING_BYTES_MAX + 1, STRING_BYTES_MAX);
    let refused = ProtocolError::StringTooLong { length, limit, at: 3 };
    assert_eq!(read_slice(&longer, |r| r.string(true).map(str::len)), Err(refused));
}

#[test]
fn a_claimed_count_is_checked_against_what_remains() {
    let claim = b"\x00\x98\x96\x80\0\0\0\0\0\0\0\0"; // ten million
    let refused = read(claim, |r| r.array(false, 4, Reader::i32));
    assert_eq!(refused, Err(ProtocolError::TooManyElements { count: 10_000_000, limit: 2, at: 4 }));
}

#[test]
fn a_request_has_a_smaller_budget_than_an_answer() {
    let bytes = [&250_000i32.to_be_bytes()[..], &[0; 250_000]].concat();
    let count = |mut r: Reader<'_>| r.array(false, 1, Reader::i8).map(|it| it.len());
    assert_eq!(count(Reader::new(&bytes)), Ok(250_000));
    assert_eq!(
        count(Reader::with_budget(&bytes, REQUEST_ELEMENTS_MAX)),
        Err(ProtocolError::TooManyElements { count: 250_000, limit: 200_000, at: 4 })
    );
}

#[test]
fn all_arrays_of_a_message_share_one_budget() {
    let half = [&600_000_i32.to_be_bytes()[..], &vec![0; 600_000]].concat();
    let twice = [&half[..], &half[..]].concat();
    let mut r = Reader::new(&twice);
    assert_eq!(r.array(false, 1, Reader::i8).map(|items| items.len()), Ok(600_000));
    assert!(matches!(
        r.array(false, 1, Reader::i8),
        Err(ProtocolError::TooManyElements { limit: 400_000, .. })
    ));
}

#[test]
fn tags_are_skipped_bounded_and_counted() {
    let one = b"\x02\x05\x01\x2a\x63\x02hi!";
    let mut r = Reader::new(one);
    let mut seen = None;
    r.tags(|tag, r| {
        if tag == 5 {
            seen = Some(r.i8()?);
        }
        Ok(tag == 5)
    })
    .unwrap();
    assert_eq!((seen, r.rest()), (Some(42), &b"!"[..]));
    // the field says two bytes, its value has one
    let long = read(b"\x01\x05\x02\x2a\x00", |r| r.tags(|_, r| r.i8().map(|_| true)));
    assert_eq!(long, Err(ProtocolError::TrailingBytes { remaining: 1, at: 4 }));
    // the field says one byte, its value wants four: the bytes after the field are not its own
    let short = read(b"\x01\x05\x01\x2a\x00\x00\x00", |r| r.tags(|_, r| r.i32().map(|_| true)));
    assert_eq!(short, Err(ProtocolError::Truncated { needed: 4, remaining: 1, at: 3 }));
    let many = read(b"\xff\xff\xff\xff\x07", Reader::skip_tags);
    assert_eq!(many, Err(ProtocolError::TooManyTags { count: 0x7fff_ffff, limit: TAGS_MAX, at: 5 }));
}

proptest! {
    #[test]
    fn numbers_come_back(a: i32, b: i64, c: u32) {
        let mut w = Writer::new();
        w.varint(a);
        w.varlong(b);
        w.uvarint(c);
        let bytes = w.into_bytes();
        let mut r = Reader::new(&bytes);
        prop_assert_eq!((r.varint(), r.varlong(), r.uvarint()), (Ok(a), Ok(b), Ok(c)));
        prop_assert_eq!(r.expect_end(), Ok(()));
    }

    #[test]
    fn strings_and_bytes_come_back(text: Option<String>, bytes: Option<Vec<u8>>, flexible: bool) {
        let mut w = Writer::new();
        w.nullable_string(text.as_deref(), flexible).unwrap();
        w.nullable_bytes(bytes.as_deref(), flexible).unwrap();
        let written = w.into_bytes();
        let mut r = Reader::new(&written);
        prop_assert_eq!(r.nullable_string(flexible), Ok(text.as_deref()));
        prop_assert_eq!(r.nullable_bytes(flexible), Ok(bytes.as_deref()));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>, flexible: bool) {
        let mut r = Reader::new(&bytes);
        let _ = r.nullable_string(flexible);
        let _ = r.nullable_array(flexible, 1, |r| r.nullable_bytes(flexible));
        let _ = r.skip_tags();
        prop_assert!(r.position() + r.remaining() == bytes.len());
    }
}
