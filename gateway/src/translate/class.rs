//! Which Gateways are ours, and under which controller name.

use serde::Serialize;

use super::World;
use super::conditions::{Conditions, Fault};
use super::findings::{Code, Findings};
use crate::model::ObjectStatus;
use crate::resources::{GatewayClass, Object};

/// Our own controller name.
pub(super) const OWN_CONTROLLER: &str = "gateway.yett.dev/controller";
/// The controller name of Application Gateway for Containers.
pub(super) const ALB_CONTROLLER: &str = "alb.networking.azure.io/alb-controller";
/// The class that goes with [`ALB_CONTROLLER`].
const ALB_CLASS: &str = "azure-alb-external";

/// The controller name under which we answer for the class; `None`: the class is not ours.
///
/// From files a class needs no object; only one with a foreign controller name gives it away.
pub(super) fn controller<'a>(world: World<'a>, class: &str) -> Option<&'a str> {
    match world.resources.gateway_classes.get("", class) {
        Some(object) => {
            let name = object.spec.controller_name.as_str();
            world.facts.controllers.contains(name).then_some(name)
        }
        None if world.facts.file_mode && class == ALB_CLASS => Some(ALB_CONTROLLER),
        None => world.facts.file_mode.then_some(OWN_CONTROLLER),
    }
}

/// Why the class is not accepted; its Gateways are not either.
pub(super) fn fault(world: World<'_>, class: &str) -> Option<Fault> {
    world.resources.gateway_classes.get("", class).and_then(|object| refusal(object))
}

fn refusal(class: &Object<GatewayClass>) -> Option<Fault> {
    let parameters = class.spec.parameters_ref.as_ref()?;
    let words = format!("{} {} is not supported: no parameters are", parameters.kind, parameters.name);
    Some(Fault::at("InvalidParameters", "spec.parametersRef", words))
}

#[derive(Serialize)]
struct Status {
    conditions: Conditions,
}

/// Status of every class that is ours.
pub(super) fn statuses(world: World<'_>, findings: &mut Findings) -> Vec<ObjectStatus> {
    let mut statuses = Vec::new();
    for class in &world.resources.gateway_classes {
        if controller(world, &class.meta.name).is_none() {
            continue;
        }
        let fault = refusal(class);
        if let Some(fault) = &fault {
            findings.error(Code::ClassRefused, class, "spec.parametersRef", &fault.words);
        }
        let mut conditions = Conditions::new(class.meta.generation);
        conditions.unless("Accepted", fault.as_ref(), "Valid GatewayClass");
        statuses.push(super::status(class, &Status { conditions }));
    }
    statuses
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, yaml};
    use super::*;
    use crate::model::Facts;

    #[test]
    fn which_classes_are_ours() {
        let resources = yaml(
            r#"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: gateway.yett.dev/controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: alb}
spec: {controllerName: alb.networking.azure.io/alb-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: foreign}
spec: {controllerName: example.com/other}
"#,
        );
        let file = testing::facts();
        let cluster = Facts {
            file_mode: false,
            controllers: std::iter::once(OWN_CONTROLLER.to_owned()).collect(),
            ..Facts::default()
        };
        let table = [
            ("file mode, own class", &file, "ours", Some(OWN_CONTROLLER)),
            ("file mode, the other name", &file, "alb", Some(ALB_CONTROLLER)),
            ("file mode, a foreign controller", &file, "foreign", None),
            ("file mode, no object", &file, "anything", Some(OWN_CONTROLLER)),
            ("file mode, no object, AGC's class", &file, "azure-alb-external", Some(ALB_CONTROLLER)),
            ("cluster, own class", &cluster, "ours", Some(OWN_CONTROLLER)),
            ("cluster, AGC's name is not claimed", &cluster, "alb", None),
            ("cluster, no object", &cluster, "anything", None),
            ("cluster, no object, AGC's class", &cluster, "azure-alb-external", None),
        ];
        for (description, facts, class, expected) in table {
            assert_eq!(controller(World { resources: &resources, facts }, class), expected, "{description}");
        }
    }
}
