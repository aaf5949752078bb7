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

/// Settings of PHP that a site may keep: none of them names a path or switches a protection off.
const PHP_SETTINGS: &[&str] = &[
    "date.timezone",
    "default_charset",
    "default_socket_timeout",
    "display_errors",
    "error_reporting",
    "log_errors",
    "max_execution_time",
    "max_input_time",
    "max_input_vars",
    "mbstring.internal_encoding",
    "memory_limit",
    "output_buffering",
    "post_max_size",
    "session.cookie_httponly",
    "session.cookie_lifetime",
    "session.cookie_samesite",
    "session.cookie_secure",
    "session.gc_maxlifetime",
    "short_open_tag",
    "upload_max_filesize",
    "zlib.output_compression",
];

/// PHP's settings in the file (`php_value`, `php_flag`), which only PHP inside Apache reads: as lines
/// of a `.user.ini`, and how many others are not taken over.
pub fn php_settings(bytes: &[u8], home: &str) -> (Vec<(String, String)>, u64) {
    let (mut kept, mut left_out) = (Vec::new(), 0_u64);
    for line in String::from_utf8_lossy(bytes).lines() {
        let mut words = line.split_whitespace();
        let directive = words.next().unwrap_or_default().to_ascii_lowercase();
        if !["php_value", "php_flag"].contains(&directive.as_str()) {
            continue;
        }
        let name = words.next().unwrap_or_default().to_ascii_lowercase();
        let value = words.collect::<Vec<_>>().join(" ");
        let value = value.trim_matches('"');
        // Firewalls and profilers of applications load themselves so.
        let loads = ["auto_prepend_file", "auto_append_file"].contains(&name.as_str());
        let value = if loads { value.trim_matches('\'') } else { value };
        let in_home = loads && value.starts_with(&format!("{home}/")) && !value.contains("..");
        let plain = |c: char| c.is_ascii_alphanumeric() || "-+_./:~&|^() ".contains(c);
        if (PHP_SETTINGS.contains(&name.as_str()) || in_home)
            && value.chars().all(plain)
            && !value.is_empty()
        {
            kept.push((name, value.to_owned()));
        } else {
            left_out = left_out.saturating_add(1);
        }
    }
    (kept, left_out)
}

/// The `.user.ini` with settings added that it does not have.
pub fn with_settings(ini: &[u8], settings: &[(String, String)]) -> Vec<u8> {
    let text = String::from_utf8_lossy(ini);
    let has =
        |name: &str| text.lines().any(|l| l.split('=').next().is_some_and(|n| n.trim() == name));
    let mut out = ini.to_vec();
    if !out.is_empty() && !out.ends_with(b"\n") {
        out.push(b'\n');
    }
    for (name, value) in settings.iter().filter(|(name, _)| !has(name)) {
        // In quotes, unless it is a number, a switch or an expression of constants.
        let bare = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_&|^~ ".contains(c));
        let line =
            if bare { format!("{name} = {value}\n") } else { format!("{name} = \"{value}\"\n") };
        out.extend_from_slice(line.as_bytes());
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
    fn php_settings_move_if_they_are_harmless() {
        let text = b"php_value memory_limit 256M\n <IfModule x>\nphp_flag display_errors off\n\
                     php_value auto_prepend_file /home/x/evil.php\nphp_value date.timezone Europe/Berlin\n";
        let (kept, left_out) = php_settings(text, "/home/y");
        assert_eq!((kept.len(), left_out), (3, 1));
        let waf = b"php_value auto_prepend_file '/home/y/public_html/waf.php'\n";
        let (loads, _) = php_settings(waf, "/home/y");
        assert_eq!(loads[0].1, "/home/y/public_html/waf.php");
        let ini = String::from_utf8(with_settings(b"memory_limit=64M", &kept)).unwrap();
        assert_eq!(
            ini,
            "memory_limit=64M\ndisplay_errors = off\ndate.timezone = \"Europe/Berlin\"\n"
        );
    }
}
