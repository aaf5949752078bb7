//! What an invoice needs to know of whom it is for: the country, and the number under which its tax
//! office knows a company.

use crate::{Invalid, checked_text};
use serde::{Deserialize, Serialize};

/// The officially assigned codes of ISO 3166-1.
const COUNTRIES: &str = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ \
    BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE \
    DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR \
    GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP \
    KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT \
    MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW \
    PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG \
    TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// A country in the two capital letters of ISO 3166-1: `DE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country(String);

impl Country {
    /// Reads the two letters.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.len() == 2 && Self::all().any(|code| code == text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Invalid {
            what: "country",
            rule: "must be two capital letters of ISO 3166-1, such as DE",
        })
    }

    /// All of them, by code.
    pub fn all() -> impl Iterator<Item = &'static str> {
        COUNTRIES.split_ascii_whitespace()
    }
}

/// How the numbers of a country look behind its two letters: `9` is a digit, `@` a letter, `*` either,
/// and any other character itself. The Union's are those of its VIES service ("VAT identification
/// number structure"); Greece writes `EL`, and Northern Ireland `XI`.
const FORMS: &[(&str, &[&str])] = &[
    ("AT", &["U99999999"]),
    ("BE", &["0999999999", "1999999999"]),
    ("BG", &["999999999", "9999999999"]),
    ("CH", &["E999999999", "E999999999MWST", "E999999999TVA", "E999999999IVA"]),
    ("CY", &["99999999@"]),
    ("CZ", &["99999999", "999999999", "9999999999"]),
    ("DE", &["999999999"]),
    ("DK", &["99999999"]),
    ("EE", &["999999999"]),
    ("EL", &["999999999"]),
    ("ES", &["@9999999*", "99999999@"]),
    ("FI", &["99999999"]),
    ("FR", &["**999999999"]),
    ("GB", &["999999999", "999999999999", "GD999", "HA999"]),
    ("HR", &["99999999999"]),
    ("HU", &["99999999"]),
    ("IE", &["9999999@", "9999999@@", "9@99999@", "9+99999@"]),
    ("IT", &["99999999999"]),
    ("LT", &["999999999", "999999999999"]),
    ("LU", &["99999999"]),
    ("LV", &["99999999999"]),
    ("MT", &["99999999"]),
    ("NL", &["999999999B99"]),
    ("NO", &["999999999", "999999999MVA"]),
    ("PL", &["9999999999"]),
    ("PT", &["999999999"]),
    (
        "RO",
        &["99", "999", "9999", "99999", "999999", "9999999", "99999999", "999999999", "9999999999"],
    ),
    ("SE", &["999999999999"]),
    ("SI", &["99999999"]),
    ("SK", &["9999999999"]),
    ("XI", &["999999999", "999999999999", "GD999", "HA999"]),
];

/// A number for value added tax with the letters of its country: `DE123456789`. Only its form is
/// checked; whether it was given to somebody, the tax office knows. Written without the spaces, dots
/// and hyphens that people put in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VatId(String);

impl VatId {
    /// Reads a number of the Union, of Northern Ireland, Great Britain, Switzerland or Norway.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let what = "VAT id";
        if text.len() > 40 {
            return Err(Invalid { what, rule: "is longer than any that there is" });
        }
        let written = text.chars().filter(|c| !matches!(c, ' ' | '.' | '-'));
        let id: String = written.map(|c| c.to_ascii_uppercase()).collect();
        let known = FORMS.iter().find(|(letters, _)| id.starts_with(letters));
        let Some((letters, forms)) = known else {
            return Err(Invalid {
                what,
                rule: "must begin with the letters of a country of the EU, or with GB, XI, CH or NO",
            });
        };
        let number = id.strip_prefix(letters).unwrap_or_default();
        if !forms.iter().any(|form| fits(number, form)) {
            return Err(Invalid { what, rule: "does not have the form that its country gives it" });
        }
        Ok(Self(id))
    }
}

fn fits(number: &str, form: &str) -> bool {
    number.len() == form.len()
        && number.bytes().zip(form.bytes()).all(|(c, wanted)| match wanted {
            b'9' => c.is_ascii_digit(),
            b'@' => c.is_ascii_uppercase(),
            b'*' => c.is_ascii_uppercase() || c.is_ascii_digit(),
            other => c == other,
        })
}

checked_text!(Country, VatId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_country_is_one_of_the_list() {
        assert_eq!(Country::all().count(), 249);
        for good in ["DE", "US", "GB", "GR"] {
            assert_eq!(Country::parse(good).unwrap().as_str(), good);
        }
        for wrong in ["", "de", "EL", "UK", "XX", "DEU", "D", "AD AE", " A", "  "] {
            assert!(Country::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    /// One or more of each country, as its tax office publishes examples.
    const GOOD: &[&str] = &[
        "ATU12345678",
        "BE0123456789",
        "BE1012345678",
        "BG123456789",
        "BG1234567890",
        "CHE123456789",
        "CHE-123.456.789 MWST",
        "CY12345678X",
        "CZ12345678",
        "CZ1234567890",
        "DE123456789",
        "DE 123 456 789",
        "DK12345678",
        "EE123456789",
        "EL123456789",
        "ESX12345678",
        "ES12345678X",
        "ESA1234567B",
        "FI12345678",
        "FRXX123456789",
        "FR12345678901",
        "GB123456789",
        "GB123456789012",
        "GBGD123",
        "GBHA999",
        "HR12345678901",
        "HU12345678",
        "IE1234567X",
        "IE1234567XA",
        "IE1X23456X",
        "IE1+23456X",
        "IT12345678901",
        "LT123456789",
        "LT123456789012",
        "LU12345678",
        "LV12345678901",
        "MT12345678",
        "NL123456789B01",
        "NO123456789MVA",
        "PL1234567890",
        "PT123456789",
        "RO12",
        "RO1234567890",
        "SE123456789012",
        "SI12345678",
        "SK1234567890",
        "XI123456789",
        "de123456789",
    ];

    #[test]
    fn each_countrys_numbers_have_its_form() {
        for good in GOOD {
            let id = VatId::parse(good).unwrap_or_else(|error| panic!("{good}: {error}"));
            assert!(!id.as_str().contains([' ', '.', '-']), "{id}");
            // With one more character, and with the number alone, it is none.
            assert!(VatId::parse(&format!("{good}!")).is_err(), "{good}!");
            assert!(VatId::parse(id.as_str().get(2..).unwrap()).is_err(), "{good}");
        }
        for (letters, _) in FORMS {
            assert!(GOOD.iter().any(|good| good.starts_with(letters)), "{letters} is not tried");
        }
        for wrong in [
            "",
            "DE",
            "DE12345678",
            "DE1234567890",
            "DEA23456789",
            "GR123456789",
            "ATX12345678",
            "BE2123456789",
            "US123456789",
            "NL123456789A01",
            "CH123456789",
            "DE12345678é",
            "DE\u{661}23456789",
            "FR*123456789",
            "NO123456789MVB",
            "GBHB999",
        ] {
            assert!(VatId::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
