//! Paths of the source in texts that are restored.

/// The text with the old homes' paths turned into the new one's.
#[must_use]
pub fn with_home(bytes: &[u8], old: &[&str], new: &str) -> Vec<u8> {
    let mut text = bytes.to_vec();
    // Longer ones first: `/home/a` is also the beginning of `/home/a/b`.
    let mut old: Vec<&&str> = old.iter().filter(|h| **h != new).collect();
    old.sort_by_key(|h| std::cmp::Reverse(h.len()));
    for home in old {
        text = replaced(&text, home.as_bytes(), new.as_bytes());
    }
    text
}

/// Replaces whole paths: what follows must not go on with the last name.
fn replaced(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let after = rest.strip_prefix(old);
        let ends = |next: Option<&u8>| {
            next.is_none_or(|b| !b.is_ascii_alphanumeric() && !b"-_.".contains(b))
        };
        match after {
            Some(after) if !old.is_empty() && ends(after.first()) => {
                out.extend_from_slice(new);
                rest = after;
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_whole_paths() {
        let out = with_home(b"/home3/ab/x /home3/abc /home3/ab", &["/home3/ab"], "/home/new");
        assert_eq!(out, b"/home/new/x /home3/abc /home/new");
    }
}
