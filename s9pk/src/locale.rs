//! A text in one language or in several.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

/// A text, or one for each of several locales in the order they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocaleString {
    /// One text for everybody.
    Plain(String),
    /// Locale (`en_US`) and text.
    Localized(Vec<(String, String)>),
}

impl LocaleString {
    /// The text for `locale`: its own, else one of the same language, else the first.
    pub fn text(&self, locale: &str) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Localized(texts) => {
                let language = locale.split_inclusive('_').next().unwrap_or(locale);
                let exact = texts.iter().find(|(key, _)| key == locale);
                exact
                    .or_else(|| texts.iter().find(|(key, _)| key.starts_with(language)))
                    .or_else(|| texts.first())
                    .map_or("", |(_, text)| text)
            }
        }
    }
}

impl From<&str> for LocaleString {
    fn from(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }
}

impl Serialize for LocaleString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(text) => serializer.serialize_str(text),
            Self::Localized(texts) => {
                serializer.collect_map(texts.iter().map(|(locale, text)| (locale, text)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for LocaleString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LocaleVisitor)
    }
}

struct LocaleVisitor;

impl<'de> Visitor<'de> for LocaleVisitor {
    type Value = LocaleString;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a text, or an object of locales and texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<LocaleString, E> {
        Ok(LocaleString::Plain(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LocaleString, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = map.next_entry()? {
            texts.push(text);
        }
        Ok(LocaleString::Localized(texts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_language_is_chosen_and_the_order_kept() {
        let json = r#"{"en_US":"short","de_DE":"kurz"}"#;
        let text: LocaleString = serde_json::from_str(json).unwrap();
        assert_eq!(text.text("de_DE"), "kurz");
        assert_eq!(text.text("en_GB"), "short");
        assert_eq!(text.text("fr_FR"), "short");
        assert_eq!(serde_json::to_string(&text).unwrap(), json);
        assert_eq!(LocaleString::Localized(vec![]).text("en_US"), "");
    }
}
