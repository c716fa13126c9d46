//! Structure and rules of the core kinds: Namespace, Secret, ConfigMap, Service, EndpointSlice.

use std::net::IpAddr;

use super::form::Form;
use super::shared::*;
use super::{Faults, Schema, Shape, optional, quote, required};
use crate::resources::configmap::ConfigMap;
use crate::resources::endpointslice::{AddressType, EndpointSlice};
use crate::resources::namespace::Namespace;
use crate::resources::object::Object;
use crate::resources::problem::Code;
use crate::resources::secret::{FILE_ANNOTATION_PREFIX, Secret};
use crate::resources::service::Service;

pub(in crate::resources) const NAMESPACE_KIND: Schema =
    Schema::Object(&Shape::of(&object_fields(&NAMESPACE_METADATA, optional("spec", &ANY))));

pub(in crate::resources) const SECRET: Schema = Schema::Object(&Shape::of(&[
    required("apiVersion", &FREE),
    required("kind", &FREE),
    required("metadata", &METADATA),
    optional("type", &FREE),
    optional(
        "data",
        &Schema::Map {
            key: Form::DataKey,
            value: &Schema::Text { form: Form::Base64, min: 0, max: usize::MAX },
            max: usize::MAX,
        },
    ),
    optional("stringData", &Schema::Map { key: Form::DataKey, value: &FREE, max: usize::MAX }),
    optional("immutable", &BOOL),
]));

pub(in crate::resources) const CONFIG_MAP: Schema = Schema::Object(&Shape::of(&[
    required("apiVersion", &FREE),
    required("kind", &FREE),
    required("metadata", &METADATA),
    optional("data", &Schema::Map { key: Form::DataKey, value: &FREE, max: usize::MAX }),
    optional(
        "binaryData",
        &Schema::Map {
            key: Form::DataKey,
            value: &Schema::Text { form: Form::Base64, min: 0, max: usize::MAX },
            max: usize::MAX,
        },
    ),
    optional("immutable", &BOOL),
]));

pub(in crate::resources) const SERVICE: Schema =
    Schema::Object(&Shape::of(&object_fields(&SERVICE_METADATA, required("spec", &SERVICE_SPEC))));

const SERVICE_SPEC: Schema = Schema::Object(&Shape::of(&[
    optional("type", &Schema::Word(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])),
    optional("clusterIP", &FREE),
    optional("externalName", &FREE),
    optional("selector", &TEXTS),
    optional(
        "ports",
        &Schema::List {
            item: &Schema::Object(&Shape::of(&[
                optional("name", &Schema::Text { form: Form::Free, min: 0, max: 63 }),
                required("port", &PORT),
                optional("targetPort", &Schema::PortOrName),
                optional("protocol", &PORT_PROTOCOL),
                optional("appProtocol", &text(Form::QualifiedName, 317)),
                optional("nodePort", &ANY),
            ])),
            min: 0,
            max: usize::MAX,
        },
    ),
    // Known, and of no interest here.
    optional("allocateLoadBalancerNodePorts", &ANY),
    optional("clusterIPs", &ANY),
    optional("externalIPs", &ANY),
    optional("externalTrafficPolicy", &ANY),
    optional("healthCheckNodePort", &ANY),
    optional("internalTrafficPolicy", &ANY),
    optional("ipFamilies", &ANY),
    optional("ipFamilyPolicy", &ANY),
    optional("loadBalancerClass", &ANY),
    optional("loadBalancerIP", &ANY),
    optional("loadBalancerSourceRanges", &ANY),
    optional("publishNotReadyAddresses", &ANY),
    optional("sessionAffinity", &ANY),
    optional("sessionAffinityConfig", &ANY),
    optional("trafficDistribution", &ANY),
]));

const PORT_PROTOCOL: Schema = Schema::Word(&["TCP", "UDP", "SCTP"]);

pub(in crate::resources) const ENDPOINT_SLICE: Schema = Schema::Object(&Shape::of(&[
    required("apiVersion", &FREE),
    required("kind", &FREE),
    required("metadata", &METADATA),
    required("addressType", &Schema::Word(&["IPv4", "IPv6", "FQDN"])),
    optional("endpoints", &Schema::List { item: &ENDPOINT, min: 0, max: 1000 }),
    optional(
        "ports",
        &Schema::List {
            item: &Schema::Object(&Shape::of(&[
                optional("name", &Schema::Text { form: Form::Free, min: 0, max: 63 }),
                optional("port", &PORT),
                optional("protocol", &PORT_PROTOCOL),
                optional("appProtocol", &text(Form::QualifiedName, 317)),
            ])),
            min: 0,
            max: 100,
        },
    ),
]));

const ENDPOINT: Schema = Schema::Object(&Shape::of(&[
    required("addresses", &Schema::List { item: &NAME, min: 1, max: 100 }),
    optional(
        "conditions",
        &Schema::Object(&Shape::of(&[
            optional("ready", &BOOL),
            optional("serving", &BOOL),
            optional("terminating", &BOOL),
        ])),
    ),
    optional("hostname", &text(Form::Label, 63)),
    optional("nodeName", &FREE),
    optional("zone", &FREE),
    optional("hints", &ANY),
    optional("targetRef", &ANY),
    optional("deprecatedTopology", &ANY),
]));

/// A Namespace has no rules between fields.
pub(in crate::resources) fn namespace(_: &Object<Namespace>, _: &mut Faults) {}

/// A TLS Secret has a certificate and a key; keys that a file is named for count as there.
pub(in crate::resources) fn secret(secret: &Object<Secret>, faults: &mut Faults) {
    if secret.spec.kind != "kubernetes.io/tls" {
        return;
    }
    for key in ["tls.crt", "tls.key"] {
        let from_file = secret.meta.annotations.contains_key(&format!("{FILE_ANNOTATION_PREFIX}{key}"));
        if !from_file && !secret.spec.data.contains_key(key) {
            let message = format!("a Secret of type kubernetes.io/tls needs the key `{key}`");
            faults.error(Code::MissingField, format!("data[\"{key}\"]"), message);
        }
    }
}

/// The keys of `data` and `binaryData` differ.
pub(in crate::resources) fn config_map(config_map: &Object<ConfigMap>, faults: &mut Faults) {
    for key in config_map.spec.binary_data.keys().filter(|key| config_map.spec.data.contains_key(*key)) {
        faults.error(
            Code::NotUnique,
            format!("binaryData[\"{key}\"]"),
            format!("{} is a key of `data` too", quote(key)),
        );
    }
}

/// Ports have names once there are several, and the names differ.
pub(in crate::resources) fn service(service: &Object<Service>, faults: &mut Faults) {
    let spec = &service.spec;
    if spec.kind == "ExternalName" {
        if spec.external_name.as_deref().is_none_or(str::is_empty) {
            faults.error(
                Code::MissingField,
                "spec.externalName",
                "`externalName` is required by `type: ExternalName`",
            );
        }
    } else if spec.ports.is_empty() && spec.cluster_ip.as_deref() != Some("None") {
        faults.error(Code::MissingField, "spec.ports", "needs at least one port");
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}].name");
        let named_alike = spec.ports.iter().take(index).position(|earlier| earlier.name == port.name);
        if port.name.is_empty() {
            if spec.ports.len() > 1 {
                faults.error(Code::MissingField, field, "`name` is required where there are several ports");
            }
        } else if !Form::Label.holds(&port.name) {
            faults.error(
                Code::BadFormat,
                field,
                format!("{} is no {}", quote(&port.name), Form::Label.words()),
            );
        } else if let Some(first) = named_alike {
            faults.error(
                Code::NotUnique,
                field,
                format!("port {first} has the name {} too", quote(&port.name)),
            );
        }
    }
}

/// Addresses are of the slice's type.
pub(in crate::resources) fn endpoint_slice(slice: &Object<EndpointSlice>, faults: &mut Faults) {
    for (index, endpoint) in slice.spec.endpoints.iter().enumerate() {
        for (number, address) in endpoint.addresses.iter().enumerate() {
            let parsed = address.parse::<IpAddr>();
            let (fits, words) = match slice.spec.address_type {
                AddressType::IPv4 => (parsed.is_ok_and(|address| address.is_ipv4()), "IPv4 address"),
                AddressType::IPv6 => (parsed.is_ok_and(|address| address.is_ipv6()), "IPv6 address"),
                AddressType::Fqdn => (Form::Subdomain.holds(address), "host name"),
            };
            if !fits {
                let field = format!("endpoints[{index}].addresses[{number}]");
                faults.error(Code::BadFormat, field, format!("{} is no {words}", quote(address)));
            }
        }
    }
    for (index, port) in slice.spec.ports.iter().enumerate() {
        if let Some(first) = slice.spec.ports.iter().take(index).position(|earlier| earlier.name == port.name)
        {
            let message = format!("port {first} has the name {} too", quote(&port.name));
            faults.error(Code::NotUnique, format!("ports[{index}].name"), message);
        }
    }
}
