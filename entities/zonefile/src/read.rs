//! Zone files, read.

use crate::check::SET_OCTETS_MAX;
use crate::file::BELONGS_TO_SIGNING;
use crate::kinds::{Kind, SIGNING};
use crate::name::Name;
use crate::rdata::{Data, Scope};
use crate::text::{Line, Lines, Token};
use crate::{Broken, File, LeftOut, RecordSet, Soa};
use std::collections::{BTreeMap, BTreeSet};
use values::DomainName;

/// The largest file that is read.
const OCTETS_MAX: usize = 8 * 1024 * 1024;
const LINES_MAX: usize = 100_000;

/// The time to live where neither the record, nor `$TTL`, nor a record before, nor the SOA says one:
/// cPanel's default. BIND refuses such a file.
const TTL_DEFAULT: u32 = 14_400;

/// Reads the zone file of `zone` as BIND does (RFC 1035 section 5, RFC 2308 section 4): relative names
/// belong to `zone` until an `$ORIGIN` says otherwise, and a TTL that is left away is `$TTL`'s, or
/// else that of the record before, or else the SOA's minimum. Where BIND refuses a whole zone for one
/// record, only the record is left out, with its line and the reason: one that cannot be read, lies
/// outside the zone, has a type that is not carried over, or stands beside a CNAME (which goes). A
/// string over 255 octets, as cPanel writes them, is split. Records of one set with different TTLs
/// take the smallest. A SOA at the zone's name without its final dot, as Cloudflare writes it, is the
/// zone's.
///
/// A name that cannot be read never hands its line on: a record below it without a name of its own is
/// left out, too.
///
/// # Errors
/// When the file as a whole cannot be trusted: it is no text, it is too large, quotes or parentheses
/// do not close, an escape or a directive is out of form, or it is not all there is (`$INCLUDE`,
/// `$GENERATE`).
pub fn read(zone: &DomainName, bytes: &[u8]) -> Result<File, Broken> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    check_text(bytes)?;
    let apex = Name::apex(zone);
    let mut state = State {
        origin: apex.clone(),
        apex,
        owner: None,
        default_ttl: None,
        last_ttl: None,
        soa: None,
        sets: BTreeMap::new(),
        aliases: BTreeMap::new(),
        left_out: Vec::new(),
    };
    let mut lines = Lines::new(bytes);
    while let Some(line) = lines.next_line()? {
        let directive = line.tokens.first().and_then(Token::plain);
        match directive.filter(|text| text.starts_with('$') && !line.indented) {
            Some(directive) => state
                .directive(directive, &line)
                .map_err(|why| Broken { line: line.number, why })?,
            None => {
                if let Err(why) = state.record(&line) {
                    state.left_out.push(LeftOut { line: line.number, text: line.shown(), why });
                }
            }
        }
    }
    Ok(state.finish())
}

fn check_text(bytes: &[u8]) -> Result<(), Broken> {
    if bytes.len() > OCTETS_MAX {
        return Err(Broken { line: 1, why: "the file is larger than 8 MiB".to_owned() });
    }
    let mut line = 1;
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\n' => line += 1,
            b'\r' if !rest.starts_with(b"\n") => line += 1,
            0 => return Err(Broken { line, why: "the file is not text".to_owned() }),
            _ => {}
        }
        if line > LINES_MAX {
            return Err(Broken { line, why: format!("the file has more than {LINES_MAX} lines") });
        }
    }
    Ok(())
}

struct Set {
    ttl: u32,
    records: BTreeSet<String>,
    octets: usize,
}

struct State {
    apex: Name,
    origin: Name,
    owner: Option<Name>,
    default_ttl: Option<u32>,
    last_ttl: Option<u32>,
    soa: Option<Soa>,
    sets: BTreeMap<(String, &'static str), Set>,
    /// Where the CNAME of each name stands.
    aliases: BTreeMap<String, LeftOut>,
    left_out: Vec<LeftOut>,
}

impl State {
    fn directive(&mut self, directive: &str, line: &Line) -> Result<(), String> {
        let upper = directive.to_ascii_uppercase();
        match upper.as_str() {
            "$INCLUDE" => return Err("it includes another file".to_owned()),
            "$GENERATE" => return Err("it generates records".to_owned()),
            // When BIND wrote the file.
            "$DATE" => return Ok(()),
            "$TTL" | "$ORIGIN" => {}
            _ => return Err("a directive that is not known".to_owned()),
        }
        let [_, argument] = line.tokens.as_slice() else {
            return Err(format!("{upper} takes one value"));
        };
        if upper == "$TTL" {
            let text = argument.plain().unwrap_or_default();
            self.default_ttl = Some(ttl(text).ok_or("a $TTL out of form")?);
        } else {
            let origin = Name::parse(&argument.raw, &self.origin);
            self.origin = origin.map_err(|why| format!("an $ORIGIN that {why}"))?;
        }
        Ok(())
    }

    fn record(&mut self, line: &Line) -> Result<(), String> {
        let mut tokens = line.tokens.as_slice();
        if !line.indented {
            let (first, rest) = tokens.split_first().ok_or("it is empty")?;
            tokens = rest;
            // A name that cannot be read must not leave the records below it to the name before.
            self.owner = None;
            if first.quoted {
                return Err("its name stands in quotes".to_owned());
            }
            let name = Name::parse(&first.raw, &self.origin);
            self.owner = Some(name.map_err(|why| format!("its name {why}"))?);
        }
        let head = head(tokens)?;
        if head.rtype == "SOA" {
            return self.authority(&head);
        }
        let owner = self.owner.clone().ok_or("it has no name")?;
        let ttl = head.ttl.or(self.default_ttl).or(self.last_ttl).unwrap_or(TTL_DEFAULT);
        self.last_ttl = head.ttl.or(self.last_ttl);
        if SIGNING.contains(&head.rtype.as_str()) {
            return Err(BELONGS_TO_SIGNING.to_owned());
        }
        let kind = kind(&head.rtype)?;
        if !owner.is_within(&self.apex) {
            return Err("its name lies outside the zone".to_owned());
        }
        owner.check_owner().map_err(|why| format!("its name {why}"))?;
        let scope = Scope { origin: &self.origin, draft: false };
        let data = Data::read(kind, head.data, scope).map_err(|why| format!("its data {why}"))?;
        self.add(kind, &owner, (ttl, &data), line)
    }

    fn add(
        &mut self,
        kind: &'static Kind,
        owner: &Name,
        (ttl, data): (u32, &Data),
        line: &Line,
    ) -> Result<(), String> {
        let name = owner.show();
        let empty = || Set { ttl, records: BTreeSet::new(), octets: 0 };
        let set = self.sets.entry((name.clone(), kind.name)).or_insert_with(empty);
        let record = data.show();
        if set.records.contains(&record) {
            set.ttl = set.ttl.min(ttl);
            return Ok(());
        }
        if Kind::is_single(kind.name) && !set.records.is_empty() {
            return Err(format!("its name has another {}, and has one only", kind.name));
        }
        let octets = set.octets + 12 + data.wire().len();
        if octets > SET_OCTETS_MAX {
            return Err("its set would be larger than an answer can be".to_owned());
        }
        set.ttl = set.ttl.min(ttl);
        set.octets = octets;
        set.records.insert(record);
        if kind.name == "CNAME" {
            let why = "other records stand beside it, and a CNAME stands alone".to_owned();
            self.aliases.insert(name, LeftOut { line: line.number, text: line.shown(), why });
        }
        Ok(())
    }

    fn authority(&mut self, head: &Head<'_>) -> Result<(), String> {
        // Cloudflare exports it without the final dot. It can stand nowhere else than at the apex.
        if self.owner == Some(self.apex.joined(&self.apex)) {
            self.owner = Some(self.apex.clone());
        }
        if self.owner.as_ref().is_some_and(|owner| *owner != self.apex) {
            return Err("a SOA stands at the zone's own name only".to_owned());
        }
        if self.soa.is_some() {
            return Err("the zone has its SOA already".to_owned());
        }
        let [primary, hostmaster, serial, times @ ..] = head.data else {
            return Err("a SOA has two names and five numbers".to_owned());
        };
        let name = |token: &Token| {
            let name = Name::parse(&token.raw, &self.origin);
            let name = name.map_err(|why| format!("a name in the SOA {why}"))?;
            match name.is_ambiguous() || token.quoted {
                true => Err("a name in the SOA is out of form".to_owned()),
                false => Ok(name.show()),
            }
        };
        let times: Option<Vec<u32>> = times.iter().map(|t| t.plain().and_then(seconds)).collect();
        let Some([refresh, retry, expire, minimum]) = times.as_deref() else {
            return Err("a SOA has two names and five numbers".to_owned());
        };
        let serial = serial.plain().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let serial = serial.and_then(|text| text.parse().ok());
        let ttl = head.ttl.or(self.default_ttl).or(self.last_ttl);
        let soa = Soa {
            primary: name(primary)?,
            hostmaster: name(hostmaster)?,
            serial: serial.ok_or("a SOA's serial is a number of 32 bits")?,
            refresh: *refresh,
            retry: *retry,
            expire: *expire,
            minimum: *minimum,
            ttl: ttl.unwrap_or(limited(*minimum)),
        };
        match ttl {
            Some(_) => self.last_ttl = head.ttl.or(self.last_ttl),
            // As BIND: the minimum was everybody's default before RFC 2308.
            None => self.default_ttl = Some(limited(*minimum)),
        }
        self.soa = Some(soa);
        Ok(())
    }

    fn finish(mut self) -> File {
        let apex = self.apex.show();
        for (name, left_out) in self.aliases {
            let here = self.sets.range((name.clone(), "")..);
            let here = here.take_while(|((other, _), _)| *other == name);
            let beside = here.filter(|(_, set)| !set.records.is_empty()).count();
            if beside > 1 || name == apex {
                self.sets.remove(&(name, "CNAME"));
                self.left_out.push(left_out);
            }
        }
        self.left_out.sort_by_key(|left_out| left_out.line);
        let sets = self.sets.into_iter().filter(|(_, set)| !set.records.is_empty());
        let sets = sets.map(|((name, rtype), set)| RecordSet {
            name,
            rtype: rtype.to_owned(),
            ttl: set.ttl,
            records: set.records,
        });
        File { soa: self.soa, sets: sets.collect(), left_out: self.left_out }
    }
}

/// What stands between a record's name and its data.
struct Head<'t> {
    ttl: Option<u32>,
    rtype: String,
    data: &'t [Token],
}

/// The TTL and the class in either order, both optional, and the type.
fn head(tokens: &[Token]) -> Result<Head<'_>, String> {
    let mut head = Head { ttl: None, rtype: String::new(), data: tokens };
    let mut class = false;
    while let Some((first, rest)) = head.data.split_first() {
        head.data = rest;
        let text = first.plain().ok_or("it has no type")?.to_ascii_uppercase();
        match text.as_str() {
            "IN" | "CLASS1" if !class => class = true,
            "CH" | "HS" | "CS" | "CHAOS" | "HESIOD" | "NONE" | "ANY" => {
                return Err("its class is not IN".to_owned());
            }
            _ if text.starts_with("CLASS") => return Err("its class is not IN".to_owned()),
            _ if text.starts_with(|c: char| c.is_ascii_digit()) && head.ttl.is_none() => {
                head.ttl = Some(ttl(&text).ok_or("its TTL is out of form")?);
            }
            _ => {
                head.rtype = text;
                return Ok(head);
            }
        }
    }
    Err("it has no type".to_owned())
}

fn kind(rtype: &str) -> Result<&'static Kind, String> {
    let digits = rtype.strip_prefix("TYPE").filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.and_then(|n| n.parse().ok());
    let known = Kind::named(rtype).or_else(|| Kind::numbered(number?));
    known.ok_or_else(|| match rtype {
        "SPF" => "the type SPF is out of use: its text belongs into a TXT record".to_owned(),
        _ if rtype.len() <= 20 && rtype.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            format!("the type {rtype} is not carried over")
        }
        _ => "it has no type".to_owned(),
    })
}

/// A time to live. What has more than 31 bits is none (RFC 2181 section 8).
fn ttl(text: &str) -> Option<u32> {
    seconds(text).map(limited)
}

fn limited(seconds: u32) -> u32 {
    if seconds > i32::MAX.unsigned_abs() { 0 } else { seconds }
}

/// Seconds, or a sum of numbers with units: `1h30m`, `1D`.
fn seconds(text: &str) -> Option<u32> {
    let mut total = 0_u32;
    let mut number: Option<u32> = None;
    for c in text.chars() {
        if let Some(digit) = c.to_digit(10) {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    let ends_in_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
    (number.is_some() || ends_in_unit).then(|| total.checked_add(number.unwrap_or(0))).flatten()
}
