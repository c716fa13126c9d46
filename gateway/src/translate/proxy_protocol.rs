//! The Gateway's annotation that names the listeners whose connections begin with a PROXY header.
//!
//! The header comes before TLS and so before the listener is known: it is a matter of the port. Either all listeners of
//! a port are named, or those that are named are refused, since their clients would be taken for their proxy.

use super::conditions::Fault;
use super::findings::{Code, Findings};
use super::gateway::GatewayState;

/// `gateway.yett.dev/proxy-protocol: listener[,listener]`
const ANNOTATION: &str = "gateway.yett.dev/proxy-protocol";

/// Marks the listeners that are named.
pub(super) fn apply(gateway: &mut GatewayState<'_>, findings: &mut Findings) {
    let object = gateway.object;
    let Some(text) = object.meta.annotations.get(ANNOTATION) else { return };
    let field = format!("metadata.annotations[\"{ANNOTATION}\"]");
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let listeners = &gateway.listeners;
    for name in names.iter().filter(|name| listeners.iter().all(|listener| listener.spec.name != **name)) {
        findings.warning(Code::NotApplied, object, &field, format!("there is no listener {name}"));
    }
    let named: Vec<bool> =
        listeners.iter().map(|listener| names.contains(&listener.spec.name.as_str())).collect();
    for index in (0..named.len()).filter(|index| named[*index]) {
        let port = gateway.listeners[index].spec.port;
        let others = gateway
            .listeners
            .iter()
            .zip(&named)
            .filter(|(other, named)| !**named && other.spec.port == port && other.protocol.is_some());
        let others: Vec<&str> = others.map(|(other, _)| other.spec.name.as_str()).collect();
        let listener = &mut gateway.listeners[index];
        if others.is_empty() {
            listener.proxy_protocol = true;
            continue;
        }
        let words = format!(
            "a PROXY header is a matter of the whole port, and of port {port} {} not named",
            match others.as_slice() {
                [other] => format!("{other} is"),
                several => format!("{} are", several.join(", ")),
            }
        );
        findings.error(Code::ListenerRefused, object, &field, &words);
        listener.refused.get_or_insert_with(|| Fault::at("UnsupportedValue", &field, words));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, brief, condition, listener, yaml};
    use crate::model::Plan;
    use crate::translate::translate;

    fn documents(annotation: &str) -> String {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: g, namespace: web, annotations: {{gateway.yett.dev/proxy-protocol: '{annotation}'}}}}
spec:
  gatewayClassName: c
  listeners:
  - {{name: a, port: 80, protocol: HTTP, hostname: a.test}}
  - {{name: b, port: 80, protocol: HTTP, hostname: b.test}}
  - {{name: other, port: 80, protocol: TCP}}
  - {{name: c, port: 8080, protocol: HTTP}}
"
        )
    }

    /// The listeners served, those behind a PROXY header with a star.
    fn served(plan: &Plan) -> String {
        let name = |name: &str| name.rsplit('/').next().unwrap().to_owned();
        let all = plan.frontends.values().flat_map(|frontend| {
            let star = if frontend.proxy_protocol { "*" } else { "" };
            frontend.listeners.iter().map(move |listener| name(&listener.name) + star)
        });
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_annotation_holds_for_whole_ports() {
        for (annotation, expected, findings) in [
            ("", "a b c", ""),
            ("c", "a b c*", ""),
            ("a,b", "a* b* c", ""),
            (" b , a,c,", "a* b* c*", ""),
            ("a", "b c", "YT0203"),
            ("a,c", "b c*", "YT0203"),
            ("c,gone", "a b c*", "YT0221"),
        ] {
            let (plan, report) = translate(&yaml(&documents(annotation)), &testing::facts());
            assert_eq!(served(&plan), expected, "{annotation:?}");
            let ours = report.findings.iter().filter(|finding| finding.field.contains("proxy-protocol"));
            let codes: Vec<&str> = ours.map(|finding| finding.code).collect();
            assert_eq!(codes.join(" "), findings, "{annotation:?}");
        }
    }

    #[test]
    fn a_listener_that_is_named_alone_says_why_it_is_refused() {
        let (_, report) = translate(&yaml(&documents("a")), &testing::facts());
        let a = listener(&report, "web", "g", "a");
        assert_eq!(brief(&a, "Accepted"), "False/UnsupportedValue");
        let message = condition(&a, "Accepted")["message"].as_str().unwrap().to_owned();
        assert!(message.contains("of port 80 b is not named"), "{message}");
        assert_eq!(brief(&listener(&report, "web", "g", "b"), "Accepted"), "True/Accepted");
        let finding = report.findings.iter().find(|finding| finding.code == "YT0203" && finding.line == 3);
        assert!(finding.is_some(), "{:?}", report.findings);
    }
}
