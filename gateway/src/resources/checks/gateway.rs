//! Structure and rules of GatewayClass and Gateway (Gateway API v1.7.0 `gatewayclass_types.go`, `gateway_types.go`).

use std::collections::HashMap;

use super::form::Form;
use super::shared::*;
use super::{Faults, Schema, Shape, Unknown, optional, quote, required, unsupported};
use crate::resources::gateway::{Gateway, Listener, ListenerTls, Protocol, TlsMode};
use crate::resources::gatewayclass::GatewayClass;
use crate::resources::object::Object;
use crate::resources::problem::Code;

/// Names that ask for client certificates, now or in earlier versions of the API. A member that looks like one of them
/// and is not known here must not pass with a warning: the listener would serve clients unverified.
const TRUST_WORDS: Unknown = Unknown::RefuseNear(&[
    "tls",
    "frontend",
    "frontendValidation",
    "validation",
    "verify",
    "caCertificateRefs",
    "filters",
]);

const fn guarded(fields: &'static [super::Field]) -> Shape {
    Shape { fields, union: None, unknown: TRUST_WORDS }
}

pub(in crate::resources) const GATEWAY_CLASS: Schema = Schema::Object(&Shape::of(&object_fields(
    &METADATA,
    required(
        "spec",
        &Schema::Object(&Shape::of(&[
            required("controllerName", &text(Form::DomainPath, 253)),
            optional("parametersRef", &OBJECT_REF),
            optional("description", &Schema::Text { form: Form::Free, min: 0, max: 64 }),
        ])),
    ),
)));

pub(in crate::resources) const GATEWAY: Schema =
    Schema::Object(&guarded(&object_fields(&METADATA, required("spec", &Schema::Object(&guarded(&SPEC))))));

const SPEC: [super::Field; 7] = [
    required("gatewayClassName", &NAME),
    required("listeners", &Schema::List { item: &LISTENER, min: 1, max: 64 }),
    optional(
        "addresses",
        &Schema::List {
            item: &Schema::Object(&Shape::of(&[
                optional("type", &text(Form::AddressType, 253)),
                optional("value", &Schema::Text { form: Form::Free, min: 0, max: 253 }),
            ])),
            min: 0,
            max: 16,
        },
    ),
    optional("infrastructure", &INFRASTRUCTURE),
    optional("allowedListeners", &ANY),
    optional("defaultScope", &ANY),
    optional("tls", &GATEWAY_TLS),
];

const LISTENER: Schema = Schema::Object(&guarded(&[
    required("name", &SECTION),
    optional("hostname", &HOSTNAME),
    required("port", &PORT),
    required("protocol", &text(Form::Protocol, 255)),
    optional("tls", &LISTENER_TLS),
    optional("allowedRoutes", &ALLOWED_ROUTES),
    unsupported("filters"),
]));

const LISTENER_TLS: Schema = Schema::Object(&guarded(&[
    optional("mode", &Schema::Word(&["Terminate", "Passthrough"])),
    optional("certificateRefs", &Schema::List { item: &SECRET_REF, min: 0, max: 64 }),
    optional(
        "options",
        &Schema::Map {
            key: Form::QualifiedName,
            value: &Schema::Text { form: Form::Free, min: 0, max: 4096 },
            max: 16,
        },
    ),
]));

const ALLOWED_ROUTES: Schema = Schema::Object(&Shape::of(&[
    optional(
        "namespaces",
        &Schema::Object(&Shape::of(&[
            optional("from", &Schema::Word(&["All", "Selector", "Same"])),
            optional("selector", &LABEL_SELECTOR),
        ])),
    ),
    optional(
        "kinds",
        &Schema::List {
            item: &Schema::Object(&Shape::of(&[optional("group", &GROUP), required("kind", &KIND)])),
            min: 0,
            max: 8,
        },
    ),
]));

const INFRASTRUCTURE: Schema = Schema::Object(&Shape::of(&[
    optional(
        "labels",
        &Schema::Map {
            key: Form::QualifiedName,
            value: &Schema::Text { form: Form::LabelValue, min: 0, max: 63 },
            max: 8,
        },
    ),
    optional(
        "annotations",
        &Schema::Map {
            key: Form::QualifiedName,
            value: &Schema::Text { form: Form::Free, min: 0, max: 4096 },
            max: 16,
        },
    ),
    optional("parametersRef", &LOCAL_REF),
]));

const GATEWAY_TLS: Schema = Schema::Object(&Shape::strict(&[
    optional("backend", &Schema::Object(&Shape::strict(&[optional("clientCertificateRef", &SECRET_REF)]))),
    optional(
        "frontend",
        &Schema::Object(&Shape::strict(&[
            required("default", &TLS_CONFIG),
            optional(
                "perPort",
                &Schema::Keyed {
                    item: &Schema::Object(&Shape::strict(&[
                        required("port", &PORT),
                        required("tls", &TLS_CONFIG),
                    ])),
                    key: "port",
                    max: 64,
                },
            ),
        ])),
    ),
]));

const TLS_CONFIG: Schema = Schema::Object(&Shape::strict(&[optional(
    "validation",
    &Schema::Object(&Shape::strict(&[
        required("caCertificateRefs", &Schema::List { item: &OBJECT_REF, min: 1, max: 16 }),
        optional("mode", &Schema::Word(&["AllowValidOnly", "AllowInsecureFallback"])),
    ])),
)]));

/// A GatewayClass has no rules between fields.
pub(in crate::resources) fn gateway_class(_: &Object<GatewayClass>, _: &mut Faults) {}

/// The rules between the fields of a Gateway.
pub(in crate::resources) fn gateway(gateway: &Object<Gateway>, faults: &mut Faults) {
    let spec = &gateway.spec;
    for (index, listener) in spec.listeners.iter().enumerate() {
        tls_fits_protocol(listener, &format!("spec.listeners[{index}]"), faults);
    }
    listeners_differ(&spec.listeners, faults);
    let mut seen = HashMap::new();
    for (index, address) in spec.addresses.iter().enumerate() {
        let field = format!("spec.addresses[{index}].value");
        let form = match address.kind.as_str() {
            "IPAddress" => Form::IpAddress,
            "Hostname" => Form::Hostname,
            _ => Form::Free,
        };
        if address.value.is_empty() {
            continue;
        }
        if !form.holds(&address.value) {
            faults.error(Code::BadFormat, field, format!("{} is no {}", quote(&address.value), form.words()));
        } else if form != Form::Free
            && let Some(first) = seen.insert((&address.kind, &address.value), index)
        {
            faults.error(Code::NotUnique, field, format!("repeats entry {first}"));
        }
    }
}

fn tls_fits_protocol(listener: &Listener, path: &str, faults: &mut Faults) {
    let protocol = listener.protocol();
    let name = &listener.protocol_name;
    match (protocol, &listener.tls) {
        (Protocol::Http | Protocol::Tcp | Protocol::Udp, Some(_)) => {
            faults.error(
                Code::Contradiction,
                format!("{path}.tls"),
                format!("protocol {name} takes no `tls`"),
            );
        }
        (Protocol::Https, Some(ListenerTls { mode: TlsMode::Passthrough, .. })) => {
            let message = "protocol HTTPS takes mode Terminate alone; Passthrough belongs to protocol TLS";
            faults.error(Code::Contradiction, format!("{path}.tls.mode"), message);
        }
        (Protocol::Tls, None) => {
            faults.error(
                Code::MissingField,
                format!("{path}.tls"),
                "`tls` with a `mode` is required by protocol TLS",
            );
        }
        _ => {}
    }
    if let Some(ListenerTls { mode: TlsMode::Terminate, certificate_refs, options }) = &listener.tls
        && certificate_refs.is_empty()
        && options.is_empty()
    {
        let message = "mode Terminate needs `certificateRefs` (or `options`)";
        faults.error(Code::MissingField, format!("{path}.tls.certificateRefs"), message);
    }
    if matches!(protocol, Protocol::Tcp | Protocol::Udp) && listener.hostname.is_some() {
        faults.error(
            Code::Contradiction,
            format!("{path}.hostname"),
            format!("protocol {name} takes no `hostname`"),
        );
    }
}

fn listeners_differ(listeners: &[Listener], faults: &mut Faults) {
    let mut names = HashMap::new();
    let mut endpoints = HashMap::new();
    for (index, listener) in listeners.iter().enumerate() {
        if let Some(first) = names.get(&listener.name) {
            let field = format!("spec.listeners[{index}].name");
            faults.error(
                Code::NotUnique,
                field,
                format!("listener {first} has the name {} too", quote(&listener.name)),
            );
        }
        let endpoint = (listener.port, &listener.protocol_name, &listener.hostname);
        if let Some(first) = endpoints.get(&endpoint) {
            let message = format!("listener {first} has the same port, protocol and hostname");
            faults.error(Code::NotUnique, format!("spec.listeners[{index}]"), message);
        }
        names.entry(&listener.name).or_insert(index);
        endpoints.entry(endpoint).or_insert(index);
    }
}
