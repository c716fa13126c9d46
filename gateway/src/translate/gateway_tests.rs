//! Addresses, ports and sockets of Gateways, by table.

use super::super::testing::{self, brief, condition, listener, status, yaml};
use crate::model::{Facts, FrontendId, ObjectName, Plan};
use crate::resources::Resources;
use crate::translate::translate;

fn gateway(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}, namespace: web}}\n\
         spec: {{gatewayClassName: c, {spec}}}\n"
    )
}

fn http(port: u16) -> String {
    format!("listeners: [{{name: l, port: {port}, protocol: HTTP}}]")
}

fn id(name: &str, port: u16) -> FrontendId {
    FrontendId { gateway: ObjectName::new("web", name), port }
}

fn addresses(plan: &Plan, id: &FrontendId) -> Vec<String> {
    plan.frontends.get(id).map(|f| f.addresses.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

fn all_bound(resources: &Resources, facts: Facts) -> Facts {
    let (plan, _) = translate(resources, &facts);
    Facts { bound: plan.frontends.into_keys().map(|id| (id, Ok(()))).collect(), ..facts }
}

#[test]
fn addresses_are_bound_and_shown() {
    let ok = ("True/Accepted", "True/Programmed");
    let not_usable = ("True/Accepted", "False/AddressNotUsable");
    let unsupported = ("False/UnsupportedAddress", "False/Invalid");
    let table: [(&str, &str, _, &[&str], &[&str]); 9] = [
        ("none asked for", "[]", ok, &["0.0.0.0", "::"], &["192.0.2.1", "2001:db8::1"]),
        ("one of the node", "[{value: 192.0.2.1}]", ok, &["192.0.2.1"], &["192.0.2.1"]),
        ("loopback", "[{type: IPAddress, value: 127.0.0.1}]", ok, &["127.0.0.1"], &["127.0.0.1"]),
        ("any of the type", "[{type: IPAddress}]", ok, &["0.0.0.0", "::"], &["192.0.2.1", "2001:db8::1"]),
        ("a whole family", "[{value: 0.0.0.0}, {value: 192.0.2.1}]", ok, &["0.0.0.0"], &["192.0.2.1"]),
        ("not of the node", "[{value: 203.0.113.9}]", not_usable, &[], &[]),
        (
            "one good, one not",
            "[{value: 203.0.113.9}, {value: 192.0.2.1}]",
            not_usable,
            &["192.0.2.1"],
            &["192.0.2.1"],
        ),
        ("a host name", "[{type: Hostname, value: a.test}]", unsupported, &[], &[]),
        ("a type of somebody's", "[{type: test/fake-invalid-type, value: x}]", unsupported, &[], &[]),
    ];
    for (description, asked, (accepted, programmed), bound, shown) in table {
        let resources = yaml(&gateway("g", &format!("addresses: {asked}, {}", http(80))));
        let (plan, report) = translate(&resources, &all_bound(&resources, testing::facts()));
        let status = status(&report, "Gateway", "web", "g");
        assert_eq!(brief(&status, "Accepted"), accepted, "{description}");
        assert_eq!(brief(&status, "Programmed"), programmed, "{description}");
        assert_eq!(addresses(&plan, &id("g", 80)), bound, "{description}");
        let listed = status["addresses"].as_array().cloned().unwrap_or_default();
        let listed: Vec<_> = listed.iter().map(|address| address["value"].as_str().unwrap()).collect();
        assert_eq!(listed, shown, "{description}");
    }
}

#[test]
fn an_azure_frontend_means_the_default_addresses_to_its_own_class() {
    let resources = yaml(
        &gateway(
            "g",
            &format!("addresses: [{{type: alb.networking.azure.io/alb-frontend, value: fe}}], {}", http(80)),
        )
        .replace("gatewayClassName: c", "gatewayClassName: azure-alb-external"),
    );
    let (plan, report) = translate(&resources, &testing::facts());
    assert_eq!(addresses(&plan, &id("g", 80)), ["0.0.0.0", "::"]);
    assert_eq!(report.findings.len(), 1);
}

#[test]
fn the_older_gateway_keeps_address_and_port() {
    let address = |address: &str, port: u16| format!("addresses: [{{value: {address}}}], {}", http(port));
    let table = [
        ("another port", http(80), http(81), true),
        ("the same port", http(80), http(80), false),
        ("other addresses", address("192.0.2.1", 80), address("127.0.0.1", 80), true),
        ("the same address", address("192.0.2.1", 80), address("192.0.2.1", 80), false),
        ("an unspecified one first", address("0.0.0.0", 80), address("127.0.0.1", 80), false),
        ("an unspecified one second", address("127.0.0.1", 80), address("0.0.0.0", 80), false),
        ("unspecified of the other family", address("\"::\"", 80), address("127.0.0.1", 80), true),
        ("mapped to the same port", http(80), http(8080), false),
    ];
    for (description, older, younger, both) in table {
        // By name `a` would come first; by age `b` does.
        let resources = yaml(&format!(
            "{}{}",
            gateway("b", &older)
                .replace("namespace: web", "namespace: web, creationTimestamp: 2026-01-01T00:00:00Z"),
            gateway("a", &younger)
        ));
        let facts = Facts { port_map: [(80, 8080)].into(), ..testing::facts() };
        let (plan, report) = translate(&resources, &facts);
        assert_eq!(plan.frontends.len(), if both { 2 } else { 1 }, "{description}");
        assert!(plan.frontends.keys().any(|id| &*id.gateway.name == "b"), "{description}");
        let status = listener(&report, "web", "a", "l");
        let expected = if both { "True/Accepted" } else { "False/PortUnavailable" };
        assert_eq!(brief(&status, "Accepted"), expected, "{description}");
        if !both {
            let message = condition(&status, "Accepted")["message"].to_string();
            assert!(message.contains("Gateway web/b"), "{description}: {message}");
            assert!(report.findings.iter().any(|f| f.code == "YT0205"), "{description}");
        }
    }
}

#[test]
fn a_fault_does_not_hand_the_port_to_another_gateway() {
    let broken = "listeners: [{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: gone}]}}]";
    let resources = yaml(&format!("{}{}", gateway("a", broken), gateway("b", &http(443))));
    let (plan, report) = translate(&resources, &testing::facts());
    assert!(plan.frontends.is_empty());
    assert_eq!(brief(&listener(&report, "web", "b", "l"), "Accepted"), "False/PortUnavailable");
}

#[test]
fn two_ports_bound_as_one_do_not_share() {
    let listeners =
        "listeners: [{name: a, port: 443, protocol: HTTP}, {name: b, port: 8443, protocol: HTTP}]";
    let resources = yaml(&gateway("g", listeners));
    let facts = Facts { port_map: [(443, 8443)].into(), ..testing::facts() };
    let (plan, report) = translate(&resources, &facts);
    let frontends: Vec<_> = plan.frontends.values().map(|f| (f.id.port, f.bind_port)).collect();
    assert_eq!(frontends, [(443, 8443)]);
    let status = listener(&report, "web", "g", "b");
    assert_eq!(brief(&status, "Accepted"), "False/PortUnavailable");
    assert!(condition(&status, "Accepted")["message"].to_string().contains("port 443 of this Gateway"));
    let gateway = super::super::testing::status(&report, "Gateway", "web", "g");
    assert_eq!(brief(&gateway, "Accepted"), "True/ListenersNotValid");
}

#[test]
fn sockets_decide_programmed() {
    let listeners = "listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 81, protocol: HTTP}]";
    let resources = yaml(&gateway("g", listeners));
    let ok = || Ok(());
    let failed = || Err("Address already in use".to_owned());
    let table = [
        ("nothing tried", vec![], "False/Pending", "False/Pending", "False/Pending"),
        ("one of two", vec![(80, ok())], "False/Pending", "True/Programmed", "False/Pending"),
        ("both", vec![(80, ok()), (81, ok())], "True/Programmed", "True/Programmed", "True/Programmed"),
        (
            "one failed",
            vec![(80, ok()), (81, failed())],
            "False/NoResources",
            "True/Programmed",
            "False/PortUnavailable",
        ),
        (
            "failed and not tried",
            vec![(81, failed())],
            "False/NoResources",
            "False/Pending",
            "False/PortUnavailable",
        ),
    ];
    for (description, bound, gateway, a, b) in table {
        let bound = bound.into_iter().map(|(port, outcome)| (id("g", port), outcome)).collect();
        let (plan, report) = translate(&resources, &Facts { bound, ..testing::facts() });
        assert_eq!(plan.frontends.len(), 2, "{description}");
        let status = status(&report, "Gateway", "web", "g");
        assert_eq!(brief(&status, "Programmed"), gateway, "{description}");
        assert_eq!(brief(&status, "Accepted"), "True/Accepted", "{description}");
        assert_eq!(brief(&listener(&report, "web", "g", "a"), "Programmed"), a, "{description}");
        assert_eq!(brief(&listener(&report, "web", "g", "b"), "Programmed"), b, "{description}");
        let words = condition(&status, "Programmed")["message"].to_string();
        assert_eq!(
            words.contains("Address already in use"),
            gateway.contains("NoResources"),
            "{description}"
        );
    }
}

#[test]
fn parameters_are_refused() {
    let spec =
        format!("infrastructure: {{parametersRef: {{group: x.test, kind: Y, name: z}}}}, {}", http(80));
    let (plan, report) = translate(&yaml(&gateway("g", &spec)), &testing::facts());
    assert!(plan.frontends.is_empty());
    assert_eq!(brief(&status(&report, "Gateway", "web", "g"), "Accepted"), "False/InvalidParameters");
    assert_eq!(brief(&listener(&report, "web", "g", "l"), "Programmed"), "False/Invalid");
}

#[test]
fn without_any_address_there_is_none_assigned() {
    let facts = Facts { bind_addresses: Vec::new(), ..testing::facts() };
    let (plan, report) = translate(&yaml(&gateway("g", &http(80))), &facts);
    assert!(plan.frontends.is_empty());
    assert_eq!(brief(&status(&report, "Gateway", "web", "g"), "Programmed"), "False/AddressNotAssigned");
}
