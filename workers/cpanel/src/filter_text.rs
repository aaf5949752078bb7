//! Exim filter files as cPanel writes them (Exim's own manual, "Exim filter files"): a small part of
//! the language, enough for every rule that cPanel's forms can make. Nothing is ever expanded or run.

use crate::filters::{Lost, action_deliver, action_fail, action_save, test};
use crate::plan::{FilterAction, FilterRule, FilterTest};

/// The most tests that a rule may have once its alternatives are written out.
const TESTS_MAX: usize = 200;
const TOKENS_MAX: usize = 100_000;

/// The rules of a file in their order; for one that cannot be translated, why.
pub(crate) fn parse(text: &str) -> Vec<Result<FilterRule, Lost>> {
    let (tokens, names) = tokens(text);
    let mut reader = Reader { tokens: &tokens, at: 0, depth: 0 };
    let mut rules = Vec::new();
    while let Some(token) = reader.peek() {
        let name = names.iter().rev().find(|(at, _)| *at <= reader.at);
        let name = name.map_or_else(String::new, |(_, name)| name.clone());
        let from = reader.at;
        match token {
            Token::Word(w) if w == "headers" => reader.skip(3),
            _ => match reader.statement() {
                Ok(Some((tests, actions))) => rules.push(Ok(FilterRule { name, tests, actions })),
                Ok(None) => {}
                Err(why) => {
                    rules.push(Err(Lost { name, why }));
                    reader.resume(from);
                }
            },
        }
    }
    rules
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

/// The tokens, and the comments before them: cPanel writes each rule's name above it.
fn tokens(text: &str) -> (Vec<Token>, Vec<(usize, String)>) {
    let mut tokens = Vec::new();
    let mut names = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if tokens.len() > TOKENS_MAX {
            break;
        }
        match c {
            c if c.is_whitespace() => {}
            '#' => {
                let mut comment = String::new();
                while let Some(c) = chars.next_if(|c| *c != '\n') {
                    comment.push(c);
                }
                let comment = comment.trim();
                let heading =
                    comment.starts_with("Exim filter") || comment.starts_with("Generated");
                if !comment.is_empty() && !heading {
                    names.push((tokens.len(), crate::member::shown(comment.as_bytes())));
                }
            }
            '(' | ')' | ',' => tokens.push(Token::Sign(c)),
            '"' => {
                let mut quoted = String::new();
                while let Some(c) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => match chars.next() {
                            Some('n') => quoted.push('\n'),
                            Some('t') => quoted.push('\t'),
                            Some(c) => quoted.push(c),
                            None => {}
                        },
                        c => quoted.push(c),
                    }
                }
                tokens.push(Token::Text(quoted));
            }
            c => {
                let mut word = String::from(c);
                let ends = |c: &char| c.is_whitespace() || "(),\"".contains(*c);
                while let Some(c) = chars.next_if(|c| !ends(c)) {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    (tokens, names)
}

/// Alternatives, each of tests that all must hold.
type Tests = Vec<Vec<FilterTest>>;

struct Reader<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
}

/// A condition before its alternatives are written out.
enum Condition {
    Test(FilterTest),
    /// What only Exim's own guard asks: whether this is the first try, or an error message.
    Guard,
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.tokens.len());
    }

    fn next(&mut self) -> Result<Token, String> {
        let token = self.peek().cloned().ok_or("it ends in the middle of a rule")?;
        self.skip(1);
        Ok(token)
    }

    fn word_is(&self, wanted: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(w)) if w == wanted)
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = self.word_is(wanted);
        if found {
            self.skip(1);
        }
        found
    }

    /// After a rule that is not understood: behind its `endif`.
    fn resume(&mut self, from: usize) {
        self.at = from;
        let mut open = 0_usize;
        while let Some(token) = self.peek() {
            match token {
                Token::Word(w) if w == "if" => open += 1,
                Token::Word(w) if w == "endif" => open = open.saturating_sub(1),
                _ => {}
            }
            self.skip(1);
            if open == 0 {
                break;
            }
        }
    }

    /// One rule; none for the guard that every file begins with.
    fn statement(&mut self) -> Result<Option<(Tests, Vec<FilterAction>)>, String> {
        if !self.take_word("if") {
            let actions = self.actions()?;
            return Ok(Some((Vec::new(), actions)));
        }
        let condition = self.condition()?;
        if !self.take_word("then") {
            return Err("its conditions are not understood".to_owned());
        }
        let actions = self.actions()?;
        if !self.take_word("endif") {
            return Err("it has branches, which rules here do not have".to_owned());
        }
        if is_guard(&condition) {
            return Ok(None);
        }
        let tests = alternatives(condition, false)?;
        Ok(Some((tests, actions)))
    }

    fn condition(&mut self) -> Result<Condition, String> {
        self.depth += 1;
        if self.depth > 50 {
            return Err("its conditions are nested too deep".to_owned());
        }
        let mut any = Vec::new();
        loop {
            let mut all = vec![self.single()?];
            while self.take_word("and") {
                all.push(self.single()?);
            }
            any.push(Condition::All(all));
            if !self.take_word("or") {
                break;
            }
        }
        self.depth -= 1;
        Ok(Condition::Any(any))
    }

    fn single(&mut self) -> Result<Condition, String> {
        if self.take_word("not") {
            return Ok(Condition::Not(Box::new(self.single()?)));
        }
        match self.next()? {
            Token::Sign('(') => {
                let inner = self.condition()?;
                match self.next()? {
                    Token::Sign(')') => Ok(inner),
                    _ => Err("a parenthesis is not closed".to_owned()),
                }
            }
            Token::Word(w) if w == "error_message" || w == "first_delivery" => Ok(Condition::Guard),
            Token::Word(w) if w == "foranyaddress" => self.any_address(),
            Token::Word(part) | Token::Text(part) => self.comparison(&part),
            Token::Sign(_) => Err("its conditions are not understood".to_owned()),
        }
    }

    /// `$h_to: contains "x"`.
    fn comparison(&mut self, part: &str) -> Result<Condition, String> {
        let mut relation = Vec::new();
        let value = loop {
            match self.next()? {
                Token::Word(w) if relation.len() < 3 && is_relation_word(&w) => {
                    relation.push(w.to_ascii_lowercase());
                }
                Token::Word(w) | Token::Text(w) => break w,
                Token::Sign(_) => return Err("its conditions are not understood".to_owned()),
            }
        };
        Ok(Condition::Test(test(part, &relation.join(" "), &value)?))
    }

    /// `foranyaddress $h_to:,$h_cc: ($thisaddress contains "x")`.
    fn any_address(&mut self) -> Result<Condition, String> {
        let mut headers = String::new();
        loop {
            match self.next()? {
                Token::Sign('(') => break,
                Token::Sign(',') => headers.push(','),
                Token::Word(w) | Token::Text(w) => headers.push_str(&w),
                Token::Sign(_) => return Err("its conditions are not understood".to_owned()),
            }
        }
        match self.next()? {
            Token::Word(w) | Token::Text(w) if w == "$thisaddress" => {}
            _ => return Err("its conditions are not understood".to_owned()),
        }
        let found = self.comparison(&format!("foranyaddress {headers}"))?;
        match self.next()? {
            Token::Sign(')') => Ok(found),
            _ => Err("its conditions are not understood".to_owned()),
        }
    }

    fn actions(&mut self) -> Result<Vec<FilterAction>, String> {
        let mut actions = Vec::new();
        while let Some(Token::Word(verb)) = self.peek().cloned() {
            if ["endif", "else", "elif"].contains(&verb.as_str()) {
                break;
            }
            if verb == "if" {
                return Err("it has rules inside rules".to_owned());
            }
            self.skip(1);
            match verb.as_str() {
                "finish" => actions.push(FilterAction::Stop),
                "deliver" => actions.push(action_deliver(&self.argument()?)?),
                "fail" => actions.push(action_fail(&self.text()?)),
                "save" => {
                    actions.push(action_save(&self.argument()?)?);
                    // The mode of the file.
                    if matches!(self.peek(), Some(Token::Word(w)) if w.bytes().all(|b| b.is_ascii_digit()))
                    {
                        self.skip(1);
                    }
                }
                "seen" | "unseen" => {
                    return Err(format!("{verb} deliveries are not translated"));
                }
                "pipe" => return Err("programs that read mail are not run here".to_owned()),
                _ => {
                    let verb = crate::member::shown(verb.as_bytes());
                    return Err(format!("{verb} is not translated"));
                }
            }
        }
        match actions.is_empty() {
            true => Err("it does nothing".to_owned()),
            false => Ok(actions),
        }
    }

    fn argument(&mut self) -> Result<String, String> {
        match self.next()? {
            Token::Word(text) | Token::Text(text) => Ok(text),
            Token::Sign(_) => Err("an action is not understood".to_owned()),
        }
    }

    /// `fail` and `fail text "…"`.
    fn text(&mut self) -> Result<String, String> {
        self.take_word("text");
        match self.peek() {
            Some(Token::Text(_)) => self.argument(),
            _ => Ok(String::new()),
        }
    }
}

fn is_relation_word(word: &str) -> bool {
    let known = [
        "is", "does", "not", "contain", "contains", "begin", "begins", "end", "ends", "match",
        "matches", "above", "below",
    ];
    known.iter().any(|k| word.eq_ignore_ascii_case(k))
}

fn is_guard(condition: &Condition) -> bool {
    match condition {
        Condition::Guard => true,
        Condition::Test(_) => false,
        Condition::Not(inner) => is_guard(inner),
        Condition::All(list) | Condition::Any(list) => list.iter().all(is_guard),
    }
}

/// The condition as alternatives of tests that all must hold.
fn alternatives(condition: Condition, negated: bool) -> Result<Tests, String> {
    let (list, all) = match (condition, negated) {
        (Condition::Guard, _) => return Err("it asks for what only Exim knows".to_owned()),
        (Condition::Test(mut test), _) => {
            test.negated ^= negated;
            return Ok(vec![vec![test]]);
        }
        (Condition::Not(inner), _) => return alternatives(*inner, !negated),
        (Condition::All(list), false) | (Condition::Any(list), true) => (list, true),
        (Condition::Any(list), false) | (Condition::All(list), true) => (list, false),
    };
    let mut out: Tests = if all { vec![Vec::new()] } else { Vec::new() };
    for condition in list {
        let more = alternatives(condition, negated)?;
        if all {
            let pairs =
                out.iter().flat_map(|a| more.iter().map(move |b| [a.as_slice(), b].concat()));
            out = pairs.take(TESTS_MAX + 1).collect();
        } else {
            out.extend(more);
        }
        if out.iter().map(Vec::len).sum::<usize>() > TESTS_MAX {
            return Err("it has too many conditions".to_owned());
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{FilterPart, FilterRelation};
    use proptest::prelude::*;

    const FILE: &str = r##"# Exim filter   <<== do not edit or remove this line!

if not first_delivery and error_message then finish endif

headers charset "UTF-8"

#Generated by cPanel
#newsletters
if
 $header_subject: contains "News \"weekly\""
 or $header_from: is "list@news.example"
 and not $h_to: begins "boss"
then
 save "$home/mail/shop.example/info/.Lists.News" 660
 finish
endif
#copy to boss
if
 foranyaddress $h_to:,$h_cc: ( $thisaddress contains "sales" )
then
 deliver "boss@elsewhere.example"
endif
#script
if $message_body contains "x" then pipe "/home/shop/bin/x" endif
#throw away
if $header_x-spam-bar: contains "++++" then save "/dev/null" 660 endif
#refuse
if $header_subject: does not match "^(a|b)" then fail text "No." endif
"##;

    #[test]
    fn what_cpanel_writes() {
        let rules = parse(FILE);
        assert_eq!(rules.len(), 5, "{rules:?}");
        let first = rules[0].as_ref().unwrap();
        assert_eq!(first.name, "newsletters");
        assert_eq!(first.tests.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(first.tests[0][0].value, "News \"weekly\"");
        assert!(first.tests[1][1].negated);
        assert_eq!(first.actions, [FilterAction::File("Lists.News".into()), FilterAction::Stop]);
        let second = rules[1].as_ref().unwrap();
        assert_eq!(second.tests[0][0].part, FilterPart::Headers(vec!["to".into(), "cc".into()]));
        let lost = rules[2].as_ref().unwrap_err();
        assert_eq!(lost.name, "script");
        assert!(lost.why.contains("programs"), "{lost:?}");
        assert_eq!(rules[3].as_ref().unwrap().actions, [FilterAction::Discard]);
        let last = rules[4].as_ref().unwrap();
        assert_eq!(
            (last.tests[0][0].relation, last.tests[0][0].negated),
            (FilterRelation::Matches, true)
        );
        assert_eq!(last.actions, [FilterAction::Refuse("No.".into())]);
    }

    #[test]
    fn expansions_and_branches_are_left_out() {
        for text in [
            "if $h_to: contains \"${run{/bin/sh}}\" then save \"$home/mail/x.example/a/.${readfile{/etc/passwd}}\" endif",
            "if ${run{/bin/sh}} is \"\" then finish endif",
            "if $h_to: is \"a\" then deliver \"b@x.example\" else deliver \"c@x.example\" endif",
            "if $h_to: is \"a\" then save \"/etc/cron.d/x\" endif",
            "if $h_to: is \"a\" then deliver \"$local_part@x.example\" endif",
            "logwrite \"/tmp/x\"",
        ] {
            assert!(parse(text).iter().all(Result::is_err), "{text}");
        }
        assert!(parse("if not first_delivery and error_message then finish endif").is_empty());
    }

    proptest! {
        #[test]
        fn any_text(text in "(if|then|endif|else|and|or|not|save|deliver|\\(|\\)|,|\"|\\$h_to:|contains|is|#|\n| |a){0,80}") {
            parse(&text);
        }
    }
}
