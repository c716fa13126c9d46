//! Structure and rules of FrontendTLSPolicy, ReferenceGrant and our own Backend.

use super::form::Form;
use super::shared::*;
use super::{Faults, Schema, Shape, optional, required};
use crate::resources::backend::Backend;
use crate::resources::frontendtlspolicy::FrontendTlsPolicy;
use crate::resources::object::Object;
use crate::resources::problem::Code;
use crate::resources::referencegrant::ReferenceGrant;

/// Strict throughout: whoever writes this kind wants clients verified.
pub(in crate::resources) const FRONTEND_TLS_POLICY: Schema = Schema::Object(&Shape::strict(&object_fields(
    &METADATA,
    required(
        "spec",
        &Schema::Object(&Shape::strict(&[
            required(
                "targetRef",
                &Schema::Object(&Shape::strict(&[
                    required("group", &GROUP),
                    required("kind", &KIND),
                    required("name", &NAME),
                    optional("namespace", &NAMESPACE),
                    optional("sectionNames", &Schema::List { item: &SECTION, min: 0, max: 64 }),
                ])),
            ),
            optional("default", &FRONTEND_TLS_CONFIG),
            optional("override", &FRONTEND_TLS_CONFIG),
        ])),
    ),
)));

const FRONTEND_TLS_CONFIG: Schema = Schema::Object(&Shape::strict(&[
    optional(
        "verify",
        &Schema::Object(&Shape::strict(&[
            required("caCertificateRef", &SECRET_REF),
            optional("subjectAltNames", &Schema::List { item: &NAME, min: 0, max: 64 }),
        ])),
    ),
    optional(
        "policyType",
        &Schema::Object(&Shape::strict(&[
            optional("name", &Schema::Word(&["2023-06", "2023-06-S"])),
            optional("type", &Schema::Word(&["predefined"])),
        ])),
    ),
]));

pub(in crate::resources) const REFERENCE_GRANT: Schema = Schema::Object(&Shape::of(&object_fields(
    &METADATA,
    required(
        "spec",
        &Schema::Object(&Shape::of(&[
            required(
                "from",
                &Schema::List {
                    item: &Schema::Object(&Shape::of(&[
                        required("group", &GROUP),
                        required("kind", &KIND),
                        required("namespace", &NAMESPACE),
                    ])),
                    min: 1,
                    max: 16,
                },
            ),
            required(
                "to",
                &Schema::List {
                    // A typing mistake in `name` would widen the grant to every object of the kind.
                    item: &Schema::Object(&Shape::strict(&[
                        required("group", &GROUP),
                        required("kind", &KIND),
                        optional("name", &NAME),
                    ])),
                    min: 1,
                    max: 16,
                },
            ),
        ])),
    ),
)));

pub(in crate::resources) const BACKEND: Schema = Schema::Object(&Shape::of(&object_fields(
    &METADATA,
    required(
        "spec",
        &Schema::Object(&Shape::of(&[
            required(
                "endpoints",
                &Schema::List {
                    item: &Schema::Object(&Shape::of(&[
                        optional("address", &text(Form::IpAddress, 45)),
                        optional("hostname", &PRECISE_HOSTNAME),
                        required("port", &PORT),
                    ])),
                    min: 1,
                    max: 1000,
                },
            ),
            optional(
                "appProtocol",
                &Schema::Word(&["http", "kubernetes.io/h2c", "kubernetes.io/ws", "https"]),
            ),
        ])),
    ),
)));

/// What a FrontendTLSPolicy may be attached to is for translation to answer, in its status.
pub(in crate::resources) fn frontend_tls_policy(_: &Object<FrontendTlsPolicy>, _: &mut Faults) {}

/// A ReferenceGrant has no rules between fields.
pub(in crate::resources) fn reference_grant(_: &Object<ReferenceGrant>, _: &mut Faults) {}

/// The rules between the fields of a Backend.
pub(in crate::resources) fn backend(backend: &Object<Backend>, faults: &mut Faults) {
    for (index, endpoint) in backend.spec.endpoints.iter().enumerate() {
        let field = format!("spec.endpoints[{index}]");
        match (&endpoint.address, &endpoint.hostname) {
            (None, None) => faults.error(Code::MissingField, field, "needs an `address` or a `hostname`"),
            (Some(_), Some(_)) => {
                faults.error(Code::Contradiction, field, "takes `address` or `hostname`, not both");
            }
            _ => {}
        }
    }
}
