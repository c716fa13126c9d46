//! `yett status`: the status of every object as a cluster would hold it.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Failure;
use super::admin::Where;
use super::table::aligned;
use crate::status;

/// The arguments of `yett status`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    admin: Where,
    /// Form of the output
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// One line a condition
    Table,
    /// A List
    Json,
    /// A List
    Yaml,
}

/// Asks the running gateway and prints what it says.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let body = arguments.admin.get("/status").map_err(Failure::operation)?;
    let list: Value = serde_json::from_slice(&body)
        .context("the gateway's answer is no JSON")
        .map_err(Failure::operation)?;
    let text = match arguments.output {
        Output::Table => table(&list),
        Output::Json => format!("{list:#}\n"),
        Output::Yaml => status::yaml(&list).map_err(Failure::operation)?,
    };
    super::print(&text)
}

const HEAD: [&str; 7] = ["KIND", "NAMESPACE", "NAME", "PART", "CONDITION", "STATUS", "MESSAGE"];

/// One line a condition, columns aligned.
fn table(list: &Value) -> String {
    let mut rows = Vec::new();
    for item in list["items"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &item["metadata"];
        let object = [text(&item["kind"]), text(&metadata["namespace"]), text(&metadata["name"])];
        let before = rows.len();
        conditions(&object, "", &item["status"], &mut rows);
        if rows.len() == before {
            let [kind, namespace, name] = object;
            rows.push([kind, namespace, name, String::new(), "-".into(), String::new(), String::new()]);
        }
    }
    aligned(HEAD, rows)
}

/// Adds the conditions of a part of a status; `part` is what its listener, parent or ancestor is called.
fn conditions(object: &[String; 3], part: &str, status: &Value, rows: &mut Vec<[String; 7]>) {
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let text = |name: &str| condition[name].as_str().unwrap_or_default();
        let status = match text("status") {
            "True" => "True".to_owned(),
            other => format!("{other}/{}", text("reason")),
        };
        let [kind, namespace, name] = object.clone();
        let message = text("message").replace('\n', " ");
        rows.push([kind, namespace, name, part.to_owned(), text("type").to_owned(), status, message]);
    }
    for (list, called) in [("listeners", ""), ("parents", "parentRef"), ("ancestors", "ancestorRef")] {
        for element in status[list].as_array().into_iter().flatten() {
            let named = if called.is_empty() { element } else { &element[called] };
            let part = [&named["name"], &named["sectionName"]].map(Value::as_str).into_iter().flatten();
            conditions(object, &part.collect::<Vec<_>>().join("/"), element, rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_for_each_condition() {
        let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message});
        let list = json!({"kind": "List", "items": [
            {"kind": "Gateway", "metadata": {"namespace": "ns", "name": "gw"}, "status": {
                "conditions": [condition("Accepted", "True", "Accepted", "Valid Gateway")],
                "listeners": [{"name": "l", "conditions": [condition("Programmed", "False", "Pending", "two\nlines")]}],
            }},
            {"kind": "HTTPRoute", "metadata": {"namespace": "ns", "name": "route"}, "status": {"parents": [
                {"parentRef": {"name": "gw", "sectionName": "l"}, "conditions": [condition("Accepted", "True", "", "")]},
            ]}},
            {"kind": "GatewayClass", "metadata": {"name": "class"}, "status": {}},
        ]});
        let expected = "\
KIND          NAMESPACE  NAME   PART  CONDITION   STATUS         MESSAGE
Gateway       ns         gw           Accepted    True           Valid Gateway
Gateway       ns         gw     l     Programmed  False/Pending  two lines
HTTPRoute     ns         route  gw/l  Accepted    True
GatewayClass             class        -
";
        assert_eq!(table(&list), expected);
    }
}
