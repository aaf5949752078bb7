//! `dovecot-uidlist`: the numbers under which clients know messages.

/// The longest first line that is looked at.
pub const HEAD_BYTES: u64 = 1024;

/// Whether a list begins as Dovecot writes it. Each of its processes dies at one with an empty
/// identifier, so that the mailbox would never open again; without a list it makes a new one.
pub fn is_sound(head: &[u8]) -> bool {
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return false };
    let mut words = line.split(' ');
    let number = |word: &str| word.parse::<u32>().is_ok_and(|n| n > 0);
    let guid = |word: &str| {
        word.len() == 32
            && word.bytes().all(|b| b.is_ascii_hexdigit())
            && word.bytes().any(|b| b != b'0')
    };
    match words.next() {
        Some("1") => words.all(number),
        Some("3") => words.all(|word| match word.split_at_checked(1) {
            Some(("V" | "N", rest)) => number(rest),
            Some(("G", rest)) => guid(rest),
            _ => false,
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_heads_are_sound() {
        for head in [
            "3 V1767225600 N9 Gd41d8cd98f00b204e9800998ecf8427e\n7 :1.M1.src\n",
            "3 V1767225600 N1\n",
            "1 1767225600 9\n",
        ] {
            assert!(is_sound(head.as_bytes()), "{head}");
        }
        for head in [
            "",
            "\n",
            "2 x",
            "3 V1 N9 G00000000000000000000000000000000\n",
            "3 V0 N9\n",
            "3 V1 N99999999999\n",
            "3 V1 N9 Gxyz\n",
            "3 V1  N9\n",
        ] {
            assert!(!is_sound(head.as_bytes()), "{head}");
        }
    }
}
