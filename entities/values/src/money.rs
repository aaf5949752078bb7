//! Money: whole minor units of a currency, never a float.

use crate::Invalid;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// The currencies that are known, in Stripe's lower-case form of ISO 4217. All have two decimals but
/// those below.
const KNOWN: &[&str] = &[
    "aed", "afn", "all", "amd", "ang", "aoa", "ars", "aud", "awg", "azn", "bam", "bbd", "bdt",
    "bgn", "bhd", "bif", "bmd", "bnd", "bob", "brl", "bsd", "bwp", "byn", "bzd", "cad", "cdf",
    "chf", "clp", "cny", "cop", "crc", "cve", "czk", "djf", "dkk", "dop", "dzd", "egp", "etb",
    "eur", "fjd", "fkp", "gbp", "gel", "gip", "gmd", "gnf", "gtq", "gyd", "hkd", "hnl", "htg",
    "huf", "idr", "ils", "inr", "isk", "jmd", "jod", "jpy", "kes", "kgs", "khr", "kmf", "krw",
    "kwd", "kyd", "kzt", "lak", "lbp", "lkr", "lrd", "lsl", "mad", "mdl", "mga", "mkd", "mmk",
    "mnt", "mop", "mur", "mvr", "mwk", "mxn", "myr", "mzn", "nad", "ngn", "nio", "nok", "npr",
    "nzd", "omr", "pab", "pen", "pgk", "php", "pkr", "pln", "pyg", "qar", "ron", "rsd", "rub",
    "rwf", "sar", "sbd", "scr", "sek", "sgd", "shp", "sos", "srd", "svc", "szl", "thb", "tjs",
    "tnd", "top", "try", "ttd", "twd", "tzs", "uah", "ugx", "usd", "uyu", "uzs", "vnd", "vuv",
    "wst", "xaf", "xcd", "xof", "xpf", "yer", "zar", "zmw",
];

/// Without a minor unit (docs.stripe.com/currencies, "Zero-decimal currencies").
const WHOLE: &[&str] = &[
    "bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf",
    "xof", "xpf",
];
/// With a thousandth; cards are charged in tens of it (the same page, "Three-decimal currencies").
const THOUSANDTHS: &[&str] = &["bhd", "jod", "kwd", "omr", "tnd"];
/// Written with two decimals that are always 00 (the same page, "Special cases").
const HUNDREDS: &[&str] = &["isk", "ugx"];

/// A currency of the list above: `eur`, `usd`, `jpy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency(&'static str);

impl Currency {
    /// Reads a code in lower-case letters.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let known = KNOWN.iter().find(|code| **code == text);
        known.map(|code| Self(code)).ok_or(Invalid {
            what: "currency",
            rule: "must be a known code of ISO 4217 in lower case, such as eur",
        })
    }

    /// All that are known, by code.
    pub fn all() -> impl Iterator<Item = Self> {
        KNOWN.iter().map(|code| Self(code))
    }

    /// The code in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// How many decimals an amount has when it is written: 1999 is 19.99 EUR, 1999 JPY or 1.999 KWD.
    /// Where Stripe and ISO 4217 differ (ISK, UGX, MGA) it is Stripe's number, since amounts are what
    /// Stripe charges.
    #[must_use]
    pub fn decimals(self) -> u32 {
        match self.0 {
            code if WHOLE.contains(&code) => 0,
            code if THOUSANDTHS.contains(&code) => 3,
            _ => 2,
        }
    }

    /// What an amount that is to be charged must be a multiple of.
    #[must_use]
    pub fn step(self) -> i64 {
        match self.0 {
            code if THOUSANDTHS.contains(&code) => 10,
            code if HUNDREDS.contains(&code) => 100,
            _ => 1,
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::str::FromStr for Currency {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// An amount of a currency in its minor units: `{"amount": 1999, "currency": "eur"}` is 19.99 EUR.
/// Below zero it is owed the other way round. Arithmetic is checked: neither another currency nor an
/// overflow gives a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    amount: i64,
    currency: Currency,
}

const OTHER: Invalid = Invalid { what: "money", rule: "is of another currency" };
const TOO_MUCH: Invalid = Invalid { what: "money", rule: "is more than can be counted" };

impl Money {
    /// So many minor units.
    #[must_use]
    pub fn new(amount: i64, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Nothing of a currency, to add to.
    #[must_use]
    pub fn zero(currency: Currency) -> Self {
        Self { amount: 0, currency }
    }

    /// The minor units.
    #[must_use]
    pub fn amount(self) -> i64 {
        self.amount
    }

    /// The currency.
    #[must_use]
    pub fn currency(self) -> Currency {
        self.currency
    }

    /// The sum of two amounts of one currency.
    pub fn plus(self, other: Self) -> Result<Self, Invalid> {
        let sum = self.amount.checked_add(self.same(other)?).ok_or(TOO_MUCH)?;
        Ok(Self { amount: sum, ..self })
    }

    /// What is left of an amount when another of its currency is taken away.
    pub fn minus(self, other: Self) -> Result<Self, Invalid> {
        let rest = self.amount.checked_sub(self.same(other)?).ok_or(TOO_MUCH)?;
        Ok(Self { amount: rest, ..self })
    }

    /// So many times the amount.
    pub fn times(self, count: u32) -> Result<Self, Invalid> {
        let product = self.amount.checked_mul(i64::from(count)).ok_or(TOO_MUCH)?;
        Ok(Self { amount: product, ..self })
    }

    fn same(self, other: Self) -> Result<i64, Invalid> {
        if self.currency == other.currency { Ok(other.amount) } else { Err(OTHER) }
    }
}

/// As a person reads it: `19.99 EUR`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.currency.0.to_ascii_uppercase();
        let sign = if self.amount < 0 { "-" } else { "" };
        let units = self.amount.unsigned_abs();
        let decimals = self.currency.decimals();
        let major = 10u64.pow(decimals);
        let (whole, part) = (units / major, units % major);
        match usize::try_from(decimals) {
            Ok(width) if width > 0 => write!(f, "{sign}{whole}.{part:0width$} {code}"),
            _ => write!(f, "{sign}{whole} {code}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).unwrap()
    }

    #[test]
    fn only_known_codes_in_lower_case_are_currencies() {
        for code in ["", "EUR", "Eur", "xxx", "euro", "eu", "eur ", "dem"] {
            assert!(Currency::parse(code).is_err(), "{code:?}");
        }
        assert!(KNOWN.is_sorted(), "the list is read by people");
        for special in WHOLE.iter().chain(THOUSANDTHS).chain(HUNDREDS) {
            assert!(KNOWN.contains(special), "{special}");
        }
    }

    #[test]
    fn amounts_are_written_with_the_decimals_of_their_currency() {
        let shown = |amount, code| Money::new(amount, currency(code)).to_string();
        assert_eq!(shown(1999, "eur"), "19.99 EUR");
        assert_eq!(shown(5, "usd"), "0.05 USD");
        assert_eq!(shown(-5, "usd"), "-0.05 USD");
        assert_eq!(shown(500, "jpy"), "500 JPY");
        assert_eq!(shown(1230, "kwd"), "1.230 KWD");
        assert_eq!(shown(100, "isk"), "1.00 ISK");
        assert_eq!(shown(i64::MIN, "jpy"), "-9223372036854775808 JPY");
        assert_eq!((currency("kwd").step(), currency("isk").step()), (10, 100));
        assert_eq!((currency("eur").step(), currency("jpy").step()), (1, 1));
    }

    #[test]
    fn its_json_takes_no_float_and_nothing_more() {
        let read = |text: &str| serde_json::from_str::<Money>(text);
        let euro = Money::new(1999, currency("eur"));
        let text = r#"{"amount":1999,"currency":"eur"}"#;
        assert_eq!(read(text).unwrap(), euro);
        assert_eq!(serde_json::to_string(&euro).unwrap(), text);
        for wrong in [
            r#"{"amount":19.99,"currency":"eur"}"#,
            r#"{"amount":"1999","currency":"eur"}"#,
            r#"{"amount":1999,"currency":"EUR"}"#,
            r#"{"amount":9223372036854775808,"currency":"eur"}"#,
            r#"{"amount":1999}"#,
            r#"{"amount":1999,"currency":"eur","x":1}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    fn any_currency() -> impl Strategy<Value = Currency> {
        proptest::sample::select(Currency::all().collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn arithmetic_is_that_of_whole_numbers_or_refused(
            a: i64, b: i64, count: u32, one in any_currency(), other in any_currency(),
        ) {
            let (x, y) = (Money::new(a, one), Money::new(b, one));
            let wide = |sum: i128| i64::try_from(sum).ok();
            let got = |money: Result<Money, Invalid>| money.ok().map(Money::amount);
            let (wide_a, wide_b) = (i128::from(a), i128::from(b));
            prop_assert_eq!(got(x.plus(y)), wide(wide_a + wide_b));
            prop_assert_eq!(got(x.minus(y)), wide(wide_a - wide_b));
            prop_assert_eq!(got(x.times(count)), wide(wide_a * i128::from(count)));
            prop_assert_eq!(x.plus(y), y.plus(x));
            prop_assert_eq!(x.plus(Money::zero(one)), Ok(x));
            if let Ok(sum) = x.plus(y) {
                prop_assert_eq!(sum.minus(y), Ok(x));
                prop_assert_eq!(sum.currency(), one);
            }
            let foreign = Money::new(b, other);
            prop_assert_eq!(x.plus(foreign).is_err(), one != other || wide(wide_a + wide_b).is_none());
            prop_assert_eq!(x.minus(foreign).is_err(), one != other || wide(wide_a - wide_b).is_none());
        }

        #[test]
        fn its_json_and_its_text_hold_every_minor_unit(amount: i64, one in any_currency()) {
            let money = Money::new(amount, one);
            let json = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&json).unwrap(), money);
            let digits: String = money.to_string().chars().filter(char::is_ascii_digit).collect();
            prop_assert_eq!(digits.parse::<u128>().unwrap(), u128::from(amount.unsigned_abs()));
        }
    }
}
