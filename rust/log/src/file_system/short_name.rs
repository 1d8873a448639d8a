//! Names of files in little memory: a segment has four, and a broker tens of thousands of segments that nobody uses.

use crate::file_name;

/// Suffixes that need no memory of their own.
const SUFFIXES: [&str; 4] =
    [file_name::LOG, file_name::OFFSET_INDEX, file_name::TIME_INDEX, file_name::TXN_INDEX];

/// A name: an offset and the number of its suffix, where [`file_name::of_offset`] made it of such.
#[derive(Clone, Debug)]
pub(super) enum ShortName {
    OfOffset(i64, u8),
    Other(Box<str>),
}

impl ShortName {
    pub(super) fn new(name: String) -> Self {
        let known = file_name::parse(&name).and_then(|(offset, suffix)| {
            let number = SUFFIXES.iter().position(|known| *known == suffix)?;
            Some(Self::OfOffset(offset, u8::try_from(number).ok()?))
        });
        known.unwrap_or_else(|| Self::Other(name.into()))
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::OfOffset(offset, number) => {
                let suffix = SUFFIXES.get(usize::from(*number)).copied().unwrap_or_default();
                file_name::of_offset(*offset, suffix)
            }
            Self::Other(name) => name.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_comes_back_as_it_was() {
        let names =
            ["00000000000000000000.log", "09223372036854775807.txnindex", "00000000000000000042.index"];
        for name in names {
            assert!(matches!(ShortName::new(name.to_owned()), ShortName::OfOffset(..)), "{name}");
            assert_eq!(ShortName::new(name.to_owned()).text(), name);
        }
        for name in ["00000000000000000000.log.deleted", "00000000000000000001.log.cleaned", "a", "1.log", ""]
        {
            assert!(matches!(ShortName::new(name.to_owned()), ShortName::Other(_)), "{name}");
            assert_eq!(ShortName::new(name.to_owned()).text(), name);
        }
    }
}
