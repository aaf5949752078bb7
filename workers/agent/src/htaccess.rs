//! What a site's own configuration files say about the server that it comes from.

/// Larger files are not looked into.
pub const SIZE_MAX: u64 = 1 << 20;

/// Types under which cPanel's Apache hands files to PHP. Here such a line would send the source code.
const PHP_TYPES: &[&str] = &[
    "application/x-httpd-ea-php",
    "application/x-httpd-alt-php",
    "application/x-httpd-php",
    "application/x-lsphp",
    "x-httpd-php",
];

/// The file with every line commented out that hands PHP to cPanel's handlers, and whether there was
/// one. Which PHP runs is the virtual host's business.
pub fn without_handlers(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(bytes.len());
    let mut found = false;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if hands_to_cpanel(line) {
            found = true;
            out.extend_from_slice(b"# migrapanel: ");
        }
        out.extend_from_slice(line);
    }
    (out, found)
}

fn hands_to_cpanel(line: &[u8]) -> bool {
    let text = String::from_utf8_lossy(line).trim().to_ascii_lowercase();
    let directive = text.split_whitespace().next().unwrap_or_default();
    match directive {
        "addhandler" | "sethandler" | "addtype" | "forcetype" => {
            PHP_TYPES.iter().any(|t| text.contains(t))
        }
        "suphp_configpath" => true,
        _ => false,
    }
}

/// The file with the old home's paths turned into the new one's.
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
    fn handlers_go_and_the_rest_stays() {
        let text = b"RewriteEngine On\n<IfModule mime_module>\n  AddHandler application/x-httpd-ea-php81 .php\n</IfModule>\nAddType text/x y";
        let (out, found) = without_handlers(text);
        let out = String::from_utf8(out).unwrap();
        assert!(
            found
                && out.contains("# migrapanel:   AddHandler")
                && out.contains("\nAddType text/x y")
        );
        assert!(!without_handlers(b"RewriteRule . /x [L]\n").1);
    }

    #[test]
    fn homes_are_whole_paths() {
        let out = with_home(b"/home3/ab/x /home3/abc /home3/ab", &["/home3/ab"], "/home/new");
        assert_eq!(out, b"/home/new/x /home3/abc /home/new");
    }
}
