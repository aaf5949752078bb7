//! PEM files as blocks.

use x509_parser::pem::parse_x509_pem;

/// One block: its label, its text in one form, and what it encodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    pub label: String,
    /// With its first and last line, ended by `\n`.
    pub text: String,
    pub der: Vec<u8>,
}

/// A file with more blocks than this is none of a web site's.
const BLOCKS_MAX: usize = 50;

/// The blocks of a text, whatever stands between them. Blocks that cannot be decoded are passed over.
pub(crate) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, Vec<&str>)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----"))
        {
            open = Some((label.to_owned(), Vec::new()));
        } else if line.starts_with("-----END ") {
            blocks.extend(open.take().and_then(|(label, body)| decode(label, &body)));
            if blocks.len() >= BLOCKS_MAX {
                break;
            }
        } else if let Some((_, body)) = &mut open {
            body.push(line);
        }
    }
    blocks
}

fn decode(label: String, body: &[&str]) -> Option<Block> {
    let base64 =
        |line: &&str| line.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    // Lines of headers mean an encrypted key.
    if label.len() > 64 || !body.iter().all(base64) {
        return None;
    }
    let text = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", body.join("\n"));
    let (_, pem) = parse_x509_pem(text.as_bytes()).ok()?;
    Some(Block { label, text, der: pem.contents })
}
