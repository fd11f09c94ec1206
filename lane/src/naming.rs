//! What a call's headers name (reference 3.2).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, HeaderName, HeaderValue};

pub const MODEL: HeaderName = HeaderName::from_static("mm-model-id");
pub const MODEL_BIN: HeaderName = HeaderName::from_static("mm-model-id-bin");
pub const LEGACY_MODEL: HeaderName = HeaderName::from_static("tas-model-id");

/// How gRPC writes binary metadata, with padding or without.
pub const BINARY: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One name, and what it is a name of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Model(String),
    Alias(String),
    /// An alias, or a model if there is no alias of that name.
    Either(String),
}

/// What headers say of the model.
#[derive(Debug, PartialEq, Eq)]
pub enum Named {
    Nothing,
    One(Name),
    /// Several names, or something that is an error: for Python to deal with.
    Odd,
}

/// What the headers name.
pub fn named(headers: &HeaderMap) -> Named {
    let (mut any, mut models, mut aliases) = (false, [None, None], [None, None]);
    let mut legacy = None;
    for (name, value) in headers {
        let text = name.as_str();
        if !text.starts_with("mm-") {
            if text == LEGACY_MODEL.as_str() && legacy.replace(value).is_some() {
                return Named::Odd;
            }
            continue;
        }
        let place = match text {
            "mm-model-id" => &mut models[0],
            "mm-model-id-bin" => &mut models[1],
            "mm-vmodel-id" => &mut aliases[0],
            "mm-vmodel-id-bin" => &mut aliases[1],
            _ => continue,
        };
        any = true;
        if place.replace(value).is_some() {
            return Named::Odd;
        }
    }
    if !any {
        return legacy.map_or(Named::Nothing, |value| one(plain(value), Name::Model));
    }
    match (models, aliases) {
        ([Some(value), _], [None, None]) => one(plain(value), Name::Model),
        ([None, Some(value)], [None, None]) => one(binary(value), Name::Model),
        ([None, None], [Some(value), _]) => one(plain(value), Name::Alias),
        ([None, None], [None, Some(value)]) => one(binary(value), Name::Alias),
        _ => Named::Odd,
    }
}

fn one(text: Option<String>, name: fn(String) -> Name) -> Named {
    text.filter(|text| !text.is_empty()).map_or(Named::Odd, |text| Named::One(name(text)))
}

fn plain(value: &HeaderValue) -> Option<String> {
    value.to_str().ok().map(str::to_owned)
}

fn binary(value: &HeaderValue) -> Option<String> {
    // Several values in one header are joined by commas.
    String::from_utf8(BINARY.decode(value.as_bytes()).ok()?).ok()
}

/// The headers that name `model` to a runtime: binary always, plain if it is of characters 32 to 126 only.
pub fn naming(model: &str) -> Vec<(HeaderName, HeaderValue)> {
    let mut out = Vec::with_capacity(2);
    if let Ok(value) = HeaderValue::from_str(&BINARY.encode(model)) {
        out.push((MODEL_BIN, value));
    }
    if model.bytes().all(|byte| (32..=126).contains(&byte))
        && let Ok(value) = HeaderValue::from_str(model)
    {
        out.push((MODEL, value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Named {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        named(&headers)
    }

    #[test]
    fn plain_headers_come_before_binary_and_those_before_the_legacy_one() {
        assert_eq!(of(&[("mm-model-id-bin", "YmJi"), ("mm-model-id", "aaa")]), Named::One(Name::Model("aaa".into())));
        assert_eq!(of(&[("tas-model-id", "ccc"), ("mm-model-id-bin", "YmI")]), Named::One(Name::Model("bb".into())));
        assert_eq!(of(&[("tas-model-id", "ccc")]), Named::One(Name::Model("ccc".into())));
        assert_eq!(of(&[("mm-vmodel-id-bin", "YmI=")]), Named::One(Name::Alias("bb".into())));
        assert_eq!(of(&[("x", "y")]), Named::Nothing);
    }

    #[test]
    fn what_the_python_door_refuses_or_splits_is_its_to_answer() {
        assert_eq!(of(&[("mm-model-id", "a"), ("mm-model-id", "b")]), Named::Odd);
        assert_eq!(of(&[("mm-model-id", "a"), ("mm-vmodel-id", "b")]), Named::Odd);
        assert_eq!(of(&[("mm-model-id", "")]), Named::Odd);
        assert_eq!(of(&[("mm-model-id-bin", "YQ,Yg")]), Named::Odd);
        assert_eq!(of(&[("mm-vmodel-id-bin", "/w")]), Named::Odd);
    }

    #[test]
    fn a_runtime_is_told_the_id_in_plain_only_where_it_is_plain() {
        let names = |model| {
            naming(model).into_iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect::<Vec<_>>()
        };
        assert_eq!(names("a b"), [("mm-model-id-bin".to_owned(), "YSBi".to_owned()), ("mm-model-id".to_owned(), "a b".to_owned())]);
        assert_eq!(names("é"), [("mm-model-id-bin".to_owned(), "w6k".to_owned())]);
    }
}
