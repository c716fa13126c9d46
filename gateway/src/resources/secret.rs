//! Secret: certificates with keys, and CA bundles.
//!
//! Values leave this module only as [`SecretBytes`], which no log line can print.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::defaults;

/// An annotation of a Secret that begins like this and ends in a key names the file that holds the key's value.
pub const FILE_ANNOTATION_PREFIX: &str = "gateway.yett.dev/file.";

/// A core `v1` Secret.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(from = "WrittenSecret")]
pub struct Secret {
    /// `kubernetes.io/tls`, `Opaque`, …
    pub kind: String,
    /// `data`, decoded, with `stringData` laid over it.
    pub data: BTreeMap<String, SecretBytes>,
}

/// Bytes that must not leak: they are never printed and are wiped when the last holder lets go.
#[derive(Clone, Eq, PartialEq)]
pub struct SecretBytes(Arc<Zeroizing<Vec<u8>>>);

impl SecretBytes {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> SecretBytes {
        SecretBytes(Arc::new(Zeroizing::new(bytes)))
    }

    /// The bytes themselves. Whoever calls this must not copy them into anything that is printed or kept unwiped.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SecretBytes, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // The decoder's own message would quote a byte of the value.
        decode_base64(&text).map(SecretBytes::new).ok_or_else(|| serde::de::Error::custom("is not base64"))
    }
}

/// Base64 as the API server takes it: padded, line breaks between groups allowed.
pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    if !text.contains(['\n', '\r', ' ']) {
        return STANDARD.decode(text).ok();
    }
    let joined: Zeroizing<String> =
        Zeroizing::new(text.chars().filter(|c| !matches!(c, '\n' | '\r' | ' ')).collect());
    STANDARD.decode(joined.as_bytes()).ok()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenSecret {
    #[serde(default = "defaults::secret_type", rename = "type")]
    kind: String,
    #[serde(default)]
    data: Option<BTreeMap<String, SecretBytes>>,
    #[serde(default)]
    string_data: Option<BTreeMap<String, String>>,
}

impl From<WrittenSecret> for Secret {
    fn from(written: WrittenSecret) -> Secret {
        let mut data = written.data.unwrap_or_default();
        for (key, text) in written.string_data.unwrap_or_default() {
            data.insert(key, SecretBytes::new(text.into_bytes()));
        }
        Secret { kind: written.kind, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_decode_and_never_print() {
        let secret: Secret = serde_json::from_str(
            r#"{"data": {"a": "aGVsbG8=", "b": "aGVs\nbG8=\n"}, "stringData": {"c": "plain", "a": "over"}}"#,
        )
        .unwrap();
        assert_eq!(secret.kind, "Opaque");
        assert_eq!(secret.data["a"].expose(), b"over");
        assert_eq!(secret.data["b"].expose(), b"hello");
        assert_eq!(secret.data["c"].expose(), b"plain");
        let printed = format!("{secret:?}");
        assert!(!printed.contains("plain") && !printed.contains("112"), "{printed}");
    }

    #[test]
    fn a_bad_value_is_not_quoted() {
        let error = serde_json::from_str::<Secret>(r#"{"data": {"a": "hunter2!"}}"#).unwrap_err();
        assert!(error.to_string().contains("base64"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
