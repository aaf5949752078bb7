//! Passwords of databases in PHP files whose own quotes were not escaped: such a file does not run. It
//! is mended only when the text between the outer quotes is proved, by its hash, to be the password
//! of one of the account's database users.

use sha1::{Digest, Sha1};
use std::collections::BTreeSet;

/// The file with such passwords escaped; none when it has none.
pub fn mended(bytes: &[u8], hashes: &BTreeSet<String>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(bytes).ok().filter(|t| t.contains("<?"))?;
    let lines = text.split_inclusive('\n').map(|line| mended_line(line, hashes));
    let new: String = lines.collect();
    (new != text).then(|| new.into_bytes())
}

fn mended_line(line: &str, hashes: &BTreeSet<String>) -> String {
    for (at, quote) in line.match_indices(['\'', '"']) {
        let before = line.get(..at).unwrap_or_default().trim_end();
        let Some(end) = line.rfind(quote).filter(|end| *end > at) else { continue };
        let Some(inner) = line.get(at + 1..end) else { continue };
        let is_value = before.ends_with([',', '=', '(', '>', ':']);
        if is_value && is_open(inner, quote) && hashes.contains(&native_hash(inner)) {
            let escaped = inner.replace('\\', "\\\\").replace(quote, &format!("\\{quote}"));
            let escaped = if quote == "\"" { escaped.replace('$', "\\$") } else { escaped };
            let (head, tail) = (line.get(..=at), line.get(end..));
            return format!("{}{escaped}{}", head.unwrap_or_default(), tail.unwrap_or_default());
        }
    }
    line.to_owned()
}

/// Whether the text would end early between these quotes.
fn is_open(text: &str, quote: &str) -> bool {
    let mut escaped = false;
    for c in text.chars() {
        if !escaped && quote.contains(c) {
            return true;
        }
        escaped = c == '\\' && !escaped;
    }
    false
}

/// `mysql_native_password`: SHA-1 twice, in hex, after a star.
fn native_hash(password: &str) -> String {
    let twice = Sha1::digest(Sha1::digest(password.as_bytes()));
    format!("*{}", hex::encode_upper(twice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proved_password_is_mended() {
        assert_eq!(native_hash("password"), "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19");
        let hashes = BTreeSet::from([native_hash("p@ss'w\"ord"), native_hash("fine")]);
        let mend = |line: &str| {
            mended(format!("<?php\n{line}\n").as_bytes(), &hashes)
                .map(|b| String::from_utf8(b).unwrap())
        };
        assert_eq!(
            mend("define('DB_PASSWORD','p@ss'w\"ord');").unwrap(),
            "<?php\ndefine('DB_PASSWORD','p@ss\\'w\"ord');\n"
        );
        assert_eq!(
            mend("$x = \"p@ss'w\"ord\"; // x").unwrap(),
            "<?php\n$x = \"p@ss'w\\\"ord\"; // x\n"
        );
        for line in ["define('DB_PASSWORD','fine');", "$a = 'x'; $b = 'it's';", "echo 'a', 'b';"] {
            assert_eq!(mend(line), None, "{line}");
        }
    }
}
