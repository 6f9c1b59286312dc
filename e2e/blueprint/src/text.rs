//! Reads text as any editor or shell writes it.

use std::io;

/// Byte-order marks, <https://www.unicode.org/faq/utf_bom.html#bom4>.
const UTF_8: &[u8] = b"\xef\xbb\xbf";
const UTF_16_LITTLE: &[u8] = b"\xff\xfe";
const UTF_16_BIG: &[u8] = b"\xfe\xff";

/// Text without its byte-order mark: UTF-8 with or without one, and UTF-16 with one, as PowerShell's `>` writes it. Line ends
/// stay as they are.
///
/// # Errors
///
/// `InvalidData` for bytes that are neither.
pub fn decode(mut bytes: Vec<u8>) -> io::Result<String> {
    let wide = |from: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes[UTF_16_BIG.len()..].as_chunks::<2>();
        let units = pairs.iter().map(|pair| from(*pair));
        let text: Option<String> = char::decode_utf16(units).collect::<Result<_, _>>().ok();
        text.filter(|_| rest.is_empty())
            .ok_or_else(|| no_text("it has the mark of UTF-16 and is none"))
    };
    if bytes.starts_with(UTF_16_LITTLE) {
        return wide(u16::from_le_bytes);
    }
    if bytes.starts_with(UTF_16_BIG) {
        return wide(u16::from_be_bytes);
    }
    if bytes.starts_with(UTF_8) {
        bytes.drain(..UTF_8.len());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        no_text(&format!("it is no UTF-8 text, from byte {at} on"))
    })
}

fn no_text(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes_of: fn(u16) -> [u8; 2]) -> Vec<u8> {
        "\u{feff}"
            .encode_utf16()
            .chain(text.encode_utf16())
            .flat_map(bytes_of)
            .collect()
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let text = "{\"to\": \"Zürich ⛴\"}\r\n";
        for bytes in [
            text.as_bytes().to_vec(),
            [UTF_8, text.as_bytes()].concat(),
            utf16(text, u16::to_le_bytes),
            utf16(text, u16::to_be_bytes),
        ] {
            assert_eq!(decode(bytes).unwrap(), text);
        }
        assert_eq!(decode(UTF_8.to_vec()).unwrap(), "");
        assert_eq!(decode(vec![]).unwrap(), "");
        // One inside is a character of the text.
        assert_eq!(decode("a\u{feff}".into()).unwrap(), "a\u{feff}");
    }

    #[test]
    fn what_is_no_text_says_so() {
        for (bytes, says) in [
            (&b"a\xff"[..], "from byte 1 on"),
            (b"\xff\xfe\x41", "UTF-16"),
            (b"\xfe\xff\xd8\x00", "UTF-16"),
        ] {
            let error = decode(bytes.to_vec()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
