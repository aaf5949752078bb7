//! The part of YAML that cPanel writes: maps, lists and scalars, every scalar the string that it is.

use saphyr_parser::{Event, Parser};

/// A node of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The value of a key in a map.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(pairs) => pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text of a key in a map; none for an empty one and for `~`.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Self::Text(text)) if !text.is_empty() && text != "~" => Some(text),
            _ => None,
        }
    }

    /// The texts of a list under a key.
    #[must_use]
    pub fn texts(&self, key: &str) -> Vec<&str> {
        match self.get(key) {
            Some(Self::List(items)) => items.iter().filter_map(Self::as_text).collect(),
            _ => Vec::new(),
        }
    }

    /// The pairs of texts of a map under a key.
    #[must_use]
    pub fn pairs(&self, key: &str) -> Vec<(&str, &str)> {
        match self.get(key) {
            Some(Self::Map(pairs)) => {
                pairs.iter().filter_map(|(k, v)| Some((k.as_str(), v.as_text()?))).collect()
            }
            _ => Vec::new(),
        }
    }

    const fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }
}

const DEPTH_MAX: usize = 32;

enum Open {
    List(Vec<Node>),
    Map(Vec<(String, Node)>, Option<String>),
}

/// Reads one document. Anchors, aliases, tags, several documents, doubled keys and deep nesting are
/// refused: cPanel writes none of them, and each is a way to make two readers disagree.
pub fn parse(text: &str) -> Result<Node, &'static str> {
    let mut stack: Vec<Open> = Vec::new();
    let mut result: Option<Node> = None;
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let Ok((event, _)) = event else { return Err("not valid YAML") };
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err("more than one document");
                }
            }
            Event::Alias(_) => return Err("an alias"),
            Event::Scalar(_, _, anchor, ref tag) if anchor != 0 || tag.is_some() => {
                return Err("an anchor or a tag");
            }
            Event::SequenceStart(anchor, ref tag) | Event::MappingStart(anchor, ref tag)
                if anchor != 0 || tag.is_some() =>
            {
                return Err("an anchor or a tag");
            }
            Event::Scalar(value, ..) => {
                place(&mut stack, &mut result, Node::Text(value.into_owned()))?;
            }
            Event::SequenceStart(..) => stack.push(Open::List(Vec::new())),
            Event::MappingStart(..) => stack.push(Open::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match stack.pop() {
                    Some(Open::List(items)) => Node::List(items),
                    Some(Open::Map(pairs, None)) => Node::Map(pairs),
                    _ => return Err("not valid YAML"),
                };
                place(&mut stack, &mut result, node)?;
            }
            _ => {}
        }
        if stack.len() > DEPTH_MAX {
            return Err("nested too deep");
        }
    }
    result.ok_or("empty")
}

fn place(stack: &mut [Open], result: &mut Option<Node>, node: Node) -> Result<(), &'static str> {
    match stack.last_mut() {
        None => *result = Some(node),
        Some(Open::List(items)) => items.push(node),
        Some(Open::Map(pairs, key)) => match key.take() {
            Some(name) => pairs.push((name, node)),
            None => match node {
                Node::Text(name) if pairs.iter().any(|(k, _)| *k == name) => {
                    return Err("a key that stands twice");
                }
                Node::Text(name) => *key = Some(name),
                _ => return Err("a key that is not text"),
            },
        },
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scalars_stay_strings() {
        let text =
            "--- \naddon_domains: {}\n\nmain_domain: no\nlist: \n  - 1e3\n  - Off\nx: ~\ny: ''\n";
        let node = parse(text).unwrap();
        assert_eq!(node.text("main_domain"), Some("no"));
        assert_eq!(node.texts("list"), ["1e3", "Off"]);
        assert_eq!((node.text("x"), node.text("y")), (None, None));
        assert!(node.pairs("addon_domains").is_empty());
    }

    #[test]
    fn cleverness_is_refused() {
        for text in
            ["a: &x 1\nb: *x\n", "a: !!str 1\n", "--- \na: 1\n--- \nb: 2\n", "a: 1\na: 2\n", ""]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse(&"[".repeat(1000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text(text in "\\PC{0,200}|[-:{}\\[\\] a\n&*!'\"~#|>%]{0,80}") {
            let _outcome = parse(&text);
        }
    }
}
