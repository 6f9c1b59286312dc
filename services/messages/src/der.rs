//! Values in DER, as keys and certificate requests need them (ITU-T X.690).

/// Tag, length in bytes, content: X.690, 8.1. `content` is shorter than 64 KiB.
pub fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let length = match content.len() {
        0..0x80 => vec![low],
        0x80..0x100 => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag], &length[..], content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_has_its_shortest_form() {
        for (length, head) in [
            (0, &[0x04, 0x00][..]),
            (0x7f, &[0x04, 0x7f]),
            (0x80, &[0x04, 0x81, 0x80]),
            (0xff, &[0x04, 0x81, 0xff]),
            (0x100, &[0x04, 0x82, 0x01, 0x00]),
        ] {
            let value = tagged(0x04, &vec![7; length]);
            assert_eq!(value.get(..head.len()), Some(head));
            assert_eq!(value.len(), head.len() + length);
        }
    }
}
