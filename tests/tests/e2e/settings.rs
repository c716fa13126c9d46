//! The example of the settings file and the page about settings are what the binary says.

use std::fs;
use std::path::{Path, PathBuf};

use gateway_tests::{binary, tools};
use serde_json::{Map, Value};
use tempfile::TempDir;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

/// `yett settings -o json` over a settings file: name → {value, origin}.
fn settings(file: Option<&Path>) -> Map<String, Value> {
    let mut command = binary::command();
    command.args(["settings", "-o", "json"]);
    if let Some(file) = file {
        command.arg("--settings").arg(file);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("YETT_")) {
        command.env_remove(name);
    }
    serde_json::from_str(&tools::run(&mut command)).unwrap()
}

#[test]
fn the_example_has_every_setting_with_its_value_by_default() {
    let example = repository("config/yett.toml");
    let text = fs::read_to_string(&example).unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("yett.toml");
    // `#name = value` is a setting; `# words` are words.
    let is_setting = |rest: &str| rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '[');
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if is_setting(rest) => rest,
        _ => line,
    });
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let (ours, defaults) = (settings(Some(&file)), settings(None));
    for (name, default) in &defaults {
        assert_ne!(ours[name]["origin"], "default", "{name} is not in config/yett.toml");
        if name != "config" {
            assert_eq!(ours[name]["value"], default["value"], "{name}");
        }
    }
    // As it stands only the manifests' place is set, where the unit of systemd expects them.
    let shipped = settings(Some(&example));
    let set: Vec<&String> =
        shipped.iter().filter(|(_, setting)| setting["origin"] != "default").map(|(name, _)| name).collect();
    assert_eq!(set, ["config"]);
    assert_eq!(shipped["config"]["value"], serde_json::json!(["/etc/yett/manifests"]));
}

#[test]
fn the_page_about_settings_has_each_with_its_value_by_default() {
    let page = fs::read_to_string(repository("docs/configuration.md")).unwrap();
    let row = |name: &str| -> Option<String> {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}` |")))?;
        Some(row.split('|').nth(2)?.trim().trim_matches('`').to_owned())
    };
    for (name, default) in settings(None) {
        let expected = match &default["value"] {
            Value::Array(items) if items.is_empty() => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(row(&name), Some(expected), "{name} in docs/configuration.md");
    }
    let all = settings(None);
    for name in page.lines().filter_map(|line| line.strip_prefix("| `limits.")?.split('`').next()) {
        assert!(all.contains_key(&format!("limits.{name}")), "limits.{name} is no setting");
    }
}
