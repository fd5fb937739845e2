//! How the octets of a body are stored.

use bytes::Bytes;

/// What is packed is worth it from so many octets on.
const LEAST: usize = 1 << 10;
/// Packing has to save one octet in so many.
const WORTHWHILE: usize = 8;
/// No octet of LZ4 stands for more: what claims to be longer is spoiled, and gets no memory.
const MOST_TO_ONE: usize = 255;

/// How the octets of a body are stored. Whatever stores them several times, on several servers, has less to do where there
/// are fewer of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    Plain,
    /// As one block of LZ4.
    Lz4,
}

/// Octets that are not what was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cannot be unpacked")]
pub struct NotUnpackable;

impl Packing {
    /// Packs `content`, if that saves enough; and says how.
    pub fn pack(content: &Bytes) -> (Bytes, Self) {
        if content.len() < LEAST {
            return (content.clone(), Self::Plain);
        }
        let packed = lz4_flex::block::compress(content);
        if packed.len() > content.len() - content.len() / WORTHWHILE {
            return (content.clone(), Self::Plain);
        }
        (packed.into(), Self::Lz4)
    }

    /// The content that was packed so, which is `size` octets long.
    pub fn unpack(self, octets: &Bytes, size: usize) -> Result<Bytes, NotUnpackable> {
        match self {
            Self::Plain => Ok(octets.clone()),
            Self::Lz4 if size / MOST_TO_ONE > octets.len() => Err(NotUnpackable),
            Self::Lz4 => {
                let content = lz4_flex::block::decompress(octets, size);
                let content = content.map_err(|_| NotUnpackable)?;
                let is_whole = content.len() == size;
                is_whole.then(|| content.into()).ok_or(NotUnpackable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(size: usize) -> Bytes {
        b"Thank you for your order.\r\n"
            .iter()
            .copied()
            .cycle()
            .take(size)
            .collect()
    }

    /// Octets without any pattern.
    fn noise(size: usize) -> Bytes {
        let mut state = 1_u64;
        let next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(size).collect()
    }

    #[test]
    fn text_is_packed_and_comes_back() {
        let content = text(10_000);
        let (octets, packing) = Packing::pack(&content);
        assert_eq!(packing, Packing::Lz4);
        assert!(octets.len() < 1000, "{}", octets.len());
        assert_eq!(packing.unpack(&octets, content.len()), Ok(content));
    }

    #[test]
    fn what_is_small_or_has_no_pattern_stays_as_it_is() {
        for content in [text(LEAST - 1), noise(10_000), Bytes::new()] {
            assert_eq!(Packing::pack(&content), (content, Packing::Plain));
        }
    }

    #[test]
    fn what_was_spoiled_is_not_unpacked_to_another_length() {
        let content = text(10_000);
        let (octets, packing) = Packing::pack(&content);
        let half = octets.slice(..octets.len() / 2);
        for (octets, size) in [
            (&half, 10_000),
            (&octets, 9_999),
            (&octets, 10_001),
            (&octets, usize::MAX),
        ] {
            assert_eq!(packing.unpack(octets, size), Err(NotUnpackable));
        }
    }
}
