//! The types of records, and what their data are made of.

/// One field of a record's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Unsigned numbers of 8 and 16 bits.
    U8,
    U16,
    V4,
    V6,
    /// Any name.
    Name,
    /// A name that a host may have.
    Host,
    /// The same, or the root, for "none".
    HostOrRoot,
    /// A string of at most 255 octets.
    Text,
    /// One such string or several; longer ones are split.
    Texts,
    /// A CAA property's name.
    Tag,
    /// One string of any length.
    Octets,
    /// What is left, in hexadecimal or base64; white space may stand in it.
    Hex,
    Base64,
    /// The parameters of a service binding.
    Params,
}

/// A type of record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub name: &'static str,
    /// Its number (IANA); PowerDNS' own for ALIAS.
    pub code: u16,
    pub parts: &'static [Part],
    /// What its data must be, for a message.
    pub form: &'static str,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    pub(crate) fn numbered(code: u16) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.code == code)
    }

    /// Whether its records lead to one name that owns the rest.
    pub(crate) fn is_single(name: &str) -> bool {
        matches!(name, "CNAME" | "DNAME" | "ALIAS")
    }
}

use Part::{
    Base64, Hex, Host, HostOrRoot, Name, Octets, Params, Tag, Text, Texts, U8, U16, V4, V6,
};

const NAME: &str = "must be a name such as host.example.com.";
const BINDING: &str = "must be a priority, a name and parameters, such as 1 . alpn=h2,h3";
const DANE: &str = "must be a usage, a selector, a matching type and a hash in hexadecimal, such as 3 1 1 and 64 hexadecimal digits";

/// In the order of their names.
const KINDS: &[Kind] = &[
    Kind { name: "A", code: 1, parts: &[V4], form: "must be an IPv4 address such as 192.0.2.1" },
    Kind {
        name: "AAAA",
        code: 28,
        parts: &[V6],
        form: "must be an IPv6 address such as 2001:db8::1",
    },
    Kind { name: "ALIAS", code: 65_401, parts: &[Name], form: NAME },
    Kind {
        name: "CAA",
        code: 257,
        parts: &[U8, Tag, Octets],
        form: "must be flags, a tag and a value, such as 0 issue \"letsencrypt.org\"",
    },
    Kind { name: "CNAME", code: 5, parts: &[Name], form: NAME },
    Kind { name: "DNAME", code: 39, parts: &[Name], form: NAME },
    Kind {
        name: "DS",
        code: 43,
        parts: &[U16, U8, U8, Hex],
        form: "must be a key tag, an algorithm's number, a digest's number and the digest in hexadecimal, such as 12345 13 2 and 64 hexadecimal digits",
    },
    Kind {
        name: "HINFO",
        code: 13,
        parts: &[Text, Text],
        form: "must be two strings such as \"RFC8482\" \"\"",
    },
    Kind { name: "HTTPS", code: 65, parts: &[U16, Name, Params], form: BINDING },
    Kind {
        name: "MX",
        code: 15,
        parts: &[U16, HostOrRoot],
        form: "must be a preference and a host, such as 10 mail.example.com.",
    },
    Kind {
        name: "NAPTR",
        code: 35,
        parts: &[U16, U16, Text, Text, Text, Name],
        form: "must be an order, a preference, flags, a service, a regular expression and a name, such as 100 10 \"S\" \"SIP+D2U\" \"\" _sip._udp.example.com.",
    },
    Kind { name: "NS", code: 2, parts: &[Host], form: "must be a host such as ns1.example.com." },
    Kind { name: "OPENPGPKEY", code: 61, parts: &[Base64], form: "must be a public key in base64" },
    Kind { name: "PTR", code: 12, parts: &[Name], form: NAME },
    Kind {
        name: "RP",
        code: 17,
        parts: &[Name, Name],
        form: "must be a mailbox and a name, such as admin.example.com. info.example.com.",
    },
    Kind { name: "SMIMEA", code: 53, parts: &[U8, U8, U8, Hex], form: DANE },
    Kind {
        name: "SRV",
        code: 33,
        parts: &[U16, U16, U16, HostOrRoot],
        form: "must be a priority, a weight, a port and a host, such as 0 5 5060 sip.example.com.",
    },
    Kind {
        name: "SSHFP",
        code: 44,
        parts: &[U8, U8, Hex],
        form: "must be an algorithm, a hash's number and the hash in hexadecimal, such as 4 2 and 64 hexadecimal digits",
    },
    Kind { name: "SVCB", code: 64, parts: &[U16, Name, Params], form: BINDING },
    Kind { name: "TLSA", code: 52, parts: &[U8, U8, U8, Hex], form: DANE },
    Kind {
        name: "TXT",
        code: 16,
        parts: &[Texts],
        form: "must be text, or strings in quotes such as \"v=spf1 -all\"",
    },
    Kind {
        name: "URI",
        code: 256,
        parts: &[U16, U16, Octets],
        form: "must be a priority, a weight and an address in quotes, such as 10 1 \"https://example.com/\"",
    },
];

/// Types that signing makes. A zone's own signatures end where another server signs it.
pub(crate) const SIGNING: &[&str] = &[
    "RRSIG",
    "NSEC",
    "NSEC3",
    "NSEC3PARAM",
    "DNSKEY",
    "CDS",
    "CDNSKEY",
    "DLV",
    "KEY",
    "SIG",
    "NXT",
    "TYPE65534",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_can_be_written_is_known_and_no_other() {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names, crate::TYPES);
    }
}
