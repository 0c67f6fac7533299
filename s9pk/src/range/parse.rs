//! The grammar of ranges: a bounded recursive descent that says where it stopped.

use super::{Comparison, Rule};
use crate::version::{ExtendedVersion, Version, VersionError, number};

/// Parses the whole of `text`.
pub(super) fn parse(text: &str) -> Result<Rule, VersionError> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        atoms: 0,
    };
    let parsed = match text.starts_with(' ') {
        true => Err("it begins with a space"),
        false => parser.range(),
    };
    let whole = parsed.and_then(|rule| match parser.rest() {
        "" => Ok(rule),
        _ => Err("nothing of a range begins here"),
    });
    whole.map_err(|problem| VersionError {
        text: text.to_owned(),
        kind: "version range",
        problem: format!("{problem} (character {})", parser.at + 1),
    })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    atoms: usize,
}

type Parsed<T> = Result<T, &'static str>;

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches(' ').len();
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn eat_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let size = rest.bytes().take_while(|byte| wanted(*byte)).count();
        self.at += size;
        &rest[..size]
    }

    fn range(&mut self) -> Parsed<Rule> {
        let mut rule = self.atom()?;
        let mut either = false;
        loop {
            self.spaces();
            if self.eat("||") {
                either = true;
            } else if self.eat("&&") {
                either = false;
            } else if self.rest().is_empty() || self.rest().starts_with(')') {
                return Ok(rule);
            }
            self.spaces();
            let next = Box::new(self.atom()?);
            let before = Box::new(rule);
            rule = if either {
                Rule::Either(before, next)
            } else {
                Rule::Both(before, next)
            };
        }
    }

    fn atom(&mut self) -> Parsed<Rule> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("it is nested too deeply");
        }
        self.atoms += 1;
        if self.atoms > ATOMS {
            return Err("it has too many parts");
        }
        let rule = self.atom_within();
        self.depth -= 1;
        rule
    }

    fn atom_within(&mut self) -> Parsed<Rule> {
        if self.eat("(") {
            self.spaces();
            let rule = self.range()?;
            self.spaces();
            return if self.eat(")") {
                Ok(rule)
            } else {
                Err("a closing parenthesis is missing")
            };
        }
        if self.eat("*") {
            return Ok(Rule::Any);
        }
        let comparison = self.comparison();
        if comparison.is_none() && self.eat("!") {
            self.spaces();
            let ends = self.rest().is_empty() || self.rest().starts_with([')', '|', '&']);
            let negated = if ends { Rule::Any } else { self.atom()? };
            return Ok(Rule::Not(Box::new(negated)));
        }
        self.spaces();
        let flavor = self.flavor()?;
        if comparison.is_none() && flavor.is_some() && !self.eat(":") {
            return Ok(Rule::Flavor(flavor.flatten()));
        }
        if comparison.is_some() && flavor.is_some() && !self.eat(":") {
            return Err("a colon and a version must follow the flavor");
        }
        let version = self.version(flavor.flatten())?;
        Ok(Rule::Compare(
            comparison.unwrap_or(Comparison::Caret),
            version,
        ))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let (_, comparison) = COMPARISONS.iter().find(|(token, _)| self.eat(token))?;
        Some(*comparison)
    }

    /// `Some(None)` is the empty flavor, `#`.
    fn flavor(&mut self) -> Parsed<Option<Option<String>>> {
        if !self.eat("#") {
            return Ok(None);
        }
        let name = self.eat_while(|byte| byte.is_ascii_lowercase());
        Ok(Some((!name.is_empty()).then(|| name.to_owned())))
    }

    fn version(&mut self, flavor: Option<String>) -> Parsed<ExtendedVersion> {
        let upstream = self.part()?;
        let downstream = if self.eat(":") {
            self.part()?
        } else {
            Version::of(0)
        };
        Ok(ExtendedVersion {
            flavor,
            upstream,
            downstream,
        })
    }

    fn part(&mut self) -> Parsed<Version> {
        let begin = self.at;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
        let text = self.eat_while(allowed);
        let numbers = text.split('-').next().unwrap_or(text);
        let parsed = match numbers.split('.').all(|text| number(text).is_some()) {
            true => text.parse().map_err(|_| "this pre-release is not valid"),
            false => Err("a version's numbers must stand here, without leading zeros"),
        };
        if parsed.is_err() {
            self.at = begin;
        }
        parsed
    }
}

/// Longer tokens before those they begin with.
const COMPARISONS: [(&str, Comparison); 8] = [
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    ("!=", Comparison::NotEqual),
    ("=", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("^", Comparison::Caret),
    ("~", Comparison::Tilde),
];

/// Levels of parentheses and negations, at most: parsing and evaluating them recurses.
const DEPTH: usize = 64;

/// Parts of a range, at most: evaluating them recurses, too, and each takes a hundred times its
/// text in memory.
const ATOMS: usize = 1024;
