//! What the guides list is what the binary has.

use std::collections::BTreeMap;

use gateway_tests::{binary, tools};

const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");

#[test]
fn the_settings_table_has_every_setting_with_its_built_in_value() {
    let printed = tools::run(binary::command().arg("settings"));
    let built_in: BTreeMap<String, String> = printed
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, rest)| (key, rest.rsplit_once('#').map_or(rest, |(value, _)| value)))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().replace(['"', '[', ']'], "")))
        .collect();
    let documented: BTreeMap<String, String> = CONFIGURATION
        .split("## Settings")
        .nth(1)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| row.split_once("` |"))
        .map(|(key, rest)| (key.to_owned(), rest.split('|').next().unwrap().trim().replace('`', "")))
        .collect();
    assert_eq!(documented, built_in, "docs/configuration.md on the left, `yett settings` on the right");
}
