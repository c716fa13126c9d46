//! What the machine offers is told without changing it.

use std::fs;

use gateway_tests::binary;
use serde_json::Value;

fn doctor(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = binary::command().arg("doctor").args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_machine_is_told_to_people_and_to_programs() {
    let (code, told, said) = doctor(&["--interface", "lo", "-o", "json"]);
    let told: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}{said}"));
    let machine = &told["machine"];
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(machine["kernel"], kernel.trim());
    assert_eq!(machine["interfaces"][0]["name"], "lo");
    assert!(!machine["cpus"].as_array().unwrap().is_empty());
    let lacking = told["advice"].as_array().unwrap().iter().filter(|advice| advice["lacking"] == true);
    let lacking = lacking.map(|advice| advice["words"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(code, Some(i32::from(!lacking.is_empty())), "{told:#}");
    assert_eq!(told["ok"], lacking.is_empty());
    let (_, text, _) = doctor(&["--interface", "lo"]);
    assert!(text.contains("MACHINE") && text.contains(kernel.trim()), "{text}");
}

#[test]
fn an_interface_that_is_not_there_is_said() {
    let (code, told, said) = doctor(&["--interface", "no-such-thing"]);
    assert_eq!((code, told.as_str()), (Some(1), ""));
    assert!(said.contains("there is no interface no-such-thing"), "{said}");
}
