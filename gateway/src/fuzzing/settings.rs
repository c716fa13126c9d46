//! The settings file: refused with words, or taken.

use std::path::Path;

use crate::settings::Layers;

/// The text of a settings file.
pub fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut layers = Layers::default();
    let read = layers.file(Path::new("yett.toml"), text).and_then(|()| layers.settings());
    match read {
        Ok(settings) => {
            // What is in force can be written and read back.
            let written = toml::to_string(&settings).expect("settings are TOML");
            let mut again = Layers::default();
            again.file(Path::new("yett.toml"), &written).expect("settings as they are written");
            assert_eq!(again.settings().expect("settings as they are written"), settings);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
