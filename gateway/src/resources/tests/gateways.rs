//! Gateways.

use super::*;

#[test]
fn gateways() {
    let many = format!(
        "listeners: [{}]",
        (1..66).map(|n| format!("{{name: l{n}, port: {n}, protocol: HTTP}}")).collect::<Vec<_>>().join(", ")
    );
    check(vec![
        ("the least", gateway("listeners: [{name: l, port: 80, protocol: HTTP}]"), &[]),
        ("no spec", object("gateway.networking.k8s.io/v1", "Gateway", ""), &["YT0105! 1 spec"]),
        ("no listeners", gateway("listeners: []"), &["YT0109! 6 spec.listeners"]),
        ("no listeners at all", gateway(""), &["YT0105! 4 spec.listeners"]),
        ("65 listeners", gateway(&many), &["YT0109! 6 spec.listeners"]),
        (
            "no name of a listener",
            gateway("listeners: [{port: 80, protocol: HTTP}]"),
            &["YT0105! 6 spec.listeners[0].name"],
        ),
        (
            "port 0",
            gateway("listeners: [{name: l, port: 0, protocol: HTTP}]"),
            &["YT0109! 6 spec.listeners[0].port"],
        ),
        (
            "port 65536",
            gateway("listeners: [{name: l, port: 65536, protocol: HTTP}]"),
            &["YT0109! 6 spec.listeners[0].port"],
        ),
        (
            "port as text",
            gateway("listeners: [{name: l, port: '80', protocol: HTTP}]"),
            &["YT0106! 6 spec.listeners[0].port"],
        ),
        (
            "a fraction of a port",
            gateway("listeners: [{name: l, port: 80.5, protocol: HTTP}]"),
            &["YT0106! 6 spec.listeners[0].port"],
        ),
        (
            "a name of a listener in capitals",
            gateway("listeners: [{name: L, port: 80, protocol: HTTP}]"),
            &["YT0108! 6 spec.listeners[0].name"],
        ),
        (
            "an unknown protocol is for translation",
            gateway("listeners: [{name: l, port: 80, protocol: SMTP}]"),
            &[],
        ),
        (
            "a protocol with a dot",
            gateway("listeners: [{name: l, port: 80, protocol: a.b}]"),
            &["YT0108! 6 spec.listeners[0].protocol"],
        ),
        (
            "two with one name",
            gateway(
                "listeners:\n- {name: l, port: 80, protocol: HTTP}\n- {name: l, port: 81, protocol: HTTP}",
            ),
            &["YT0110! 8 spec.listeners[1].name"],
        ),
        (
            "two on one endpoint",
            gateway(
                "listeners:\n- {name: l, port: 80, protocol: HTTP}\n- {name: m, port: 80, protocol: HTTP}",
            ),
            &["YT0110! 8 spec.listeners[1]"],
        ),
        (
            "two that differ by host",
            gateway(
                "listeners:\n- {name: l, port: 80, protocol: HTTP, hostname: a.test}\n- {name: m, port: 80, protocol: HTTP}",
            ),
            &[],
        ),
        (
            "a bad host name",
            listener("protocol: HTTPS\nhostname: A.test\ntls: {certificateRefs: [{name: s}]}"),
            &["YT0108! 10 spec.listeners[0].hostname"],
        ),
        ("HTTP with TLS", listener(&format!("protocol: http\n{TLS}")), &["YT0111! 10 spec.listeners[0].tls"]),
        (
            "HTTPS passed through",
            listener("protocol: HTTPS\ntls: {mode: Passthrough}"),
            &["YT0111! 10 spec.listeners[0].tls.mode"],
        ),
        (
            "HTTPS without a certificate",
            listener("protocol: HTTPS\ntls: {}"),
            &["YT0105! 10 spec.listeners[0].tls.certificateRefs"],
        ),
        ("HTTPS without TLS is for translation", listener("protocol: HTTPS"), &[]),
        ("TLS without a mode", listener("protocol: TLS"), &["YT0105! 7 spec.listeners[0].tls"]),
        (
            "TCP with a host name",
            listener("protocol: TCP\nhostname: a.test"),
            &["YT0111! 10 spec.listeners[0].hostname"],
        ),
        (
            "an unknown mode",
            listener("protocol: HTTPS\ntls: {mode: Terminated, certificateRefs: [{name: s}]}"),
            &["YT0107! 10 spec.listeners[0].tls.mode"],
        ),
        (
            "routes from nowhere",
            listener("protocol: HTTP\nallowedRoutes: {namespaces: {from: None}}"),
            &["YT0107! 10 spec.listeners[0].allowedRoutes.namespaces.from"],
        ),
        (
            "a selector",
            listener(
                "protocol: HTTP\nallowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: a, operator: In, values: [b]}]}}}",
            ),
            &[],
        ),
        (
            "filters of a listener",
            listener("protocol: HTTP\nfilters: {requests: []}"),
            &["YT0113! 10 spec.listeners[0].filters"],
        ),
        (
            "a typing mistake",
            listener("protocol: HTTP\nhostnam: a.test"),
            &["YT0104 10 spec.listeners[0].hostnam"],
        ),
        (
            "a typing mistake that would turn trust off",
            gateway("tsl: {}\nlisteners: [{name: l, port: 80, protocol: HTTP}]"),
            &["YT0104! 6 spec.tsl"],
        ),
        (
            "trust at the wrong level",
            gateway("frontend: {}\nlisteners: [{name: l, port: 80, protocol: HTTP}]"),
            &["YT0104! 6 spec.frontend"],
        ),
        (
            "trust of an earlier version",
            listener(&format!(
                "protocol: HTTPS\n{}",
                TLS.replace("tls: {", "tls: {frontendValidation: {}, ")
            )),
            &["YT0104! 10 spec.listeners[0].tls.frontendValidation"],
        ),
        (
            "an address",
            gateway(
                "listeners: [{name: l, port: 80, protocol: HTTP}]\naddresses: [{value: 10.0.0.1}, {value: ''}, {type: Hostname, value: a.test}]",
            ),
            &[],
        ),
        (
            "a bad address",
            gateway("listeners: [{name: l, port: 80, protocol: HTTP}]\naddresses: [{value: a.test}]"),
            &["YT0108! 7 spec.addresses[0].value"],
        ),
        (
            "an address twice",
            gateway(
                "listeners: [{name: l, port: 80, protocol: HTTP}]\naddresses: [{value: '::1'}, {value: '::1'}]",
            ),
            &["YT0110! 7 spec.addresses[1].value"],
        ),
    ]);
}

#[test]
fn frontend_tls_of_gateways() {
    let tls = |rest: &str| {
        gateway(&format!(
            "listeners: [{{name: l, port: 443, protocol: HTTPS, {TLS}}}]\ntls:\n{}",
            indent(rest, 2)
        ))
    };
    let validation = "{validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}";
    check(vec![
        (
            "default and port",
            tls(&format!(
                "frontend:\n  default: {validation}\n  perPort: [{{port: 8443, tls: {validation}}}]"
            )),
            &[],
        ),
        ("a client certificate for backends", tls("backend: {clientCertificateRef: {name: s}}"), &[]),
        (
            "ports without default",
            tls(&format!("frontend: {{perPort: [{{port: 8443, tls: {validation}}}]}}")),
            &["YT0105! 8 spec.tls.frontend.default"],
        ),
        (
            "a port twice",
            tls(&format!(
                "frontend:\n  default: {{}}\n  perPort: [{{port: 1, tls: {validation}}}, {{port: 1, tls: {{}}}}]"
            )),
            &["YT0110! 10 spec.tls.frontend.perPort[1].port"],
        ),
        (
            "no reference",
            tls("frontend: {default: {validation: {caCertificateRefs: []}}}"),
            &["YT0109! 8 spec.tls.frontend.default.validation.caCertificateRefs"],
        ),
        (
            "a reference without group",
            tls("frontend: {default: {validation: {caCertificateRefs: [{kind: ConfigMap, name: ca}]}}}"),
            &["YT0105! 8 spec.tls.frontend.default.validation.caCertificateRefs[0].group"],
        ),
        (
            "an unknown mode",
            tls(&format!(
                "frontend: {{default: {}}}",
                validation.replace("validation: {", "validation: {mode: Optional, ")
            )),
            &["YT0107! 8 spec.tls.frontend.default.validation.mode"],
        ),
        (
            "any unknown field is refused here",
            tls("frontend: {default: {validatoin: {}}}"),
            &["YT0104! 8 spec.tls.frontend.default.validatoin"],
        ),
    ]);
}
