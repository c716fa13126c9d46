//! ConfigMap: CA bundles, mostly.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::secret::decode_base64;

/// A core `v1` ConfigMap.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMap {
    /// Texts by key.
    #[serde(default, deserialize_with = "or_empty")]
    pub data: BTreeMap<String, String>,
    /// Bytes by key, decoded; the keys are others than those of `data`.
    #[serde(default, deserialize_with = "decoded")]
    pub binary_data: BTreeMap<String, Vec<u8>>,
}

impl ConfigMap {
    /// The value of a key, from either map.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        let text = self.data.get(key).map(String::as_bytes);
        text.or_else(|| self.binary_data.get(key).map(Vec::as_slice))
    }
}

fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn decoded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<u8>>, D::Error> {
    let written: BTreeMap<String, String> = or_empty(deserializer)?;
    let decode = |(key, text): (String, String)| match decode_base64(&text) {
        Some(bytes) => Ok((key, bytes)),
        None => Err(serde::de::Error::custom(format!("`{key}` is not base64"))),
    };
    written.into_iter().map(decode).collect()
}
