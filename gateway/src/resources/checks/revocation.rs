//! Structure and rules of RevocationPolicy.

use super::form::Form;
use super::shared::*;
use super::{Faults, Schema, Shape, optional, required};
use crate::resources::object::Object;
use crate::resources::problem::Code;
use crate::resources::revocationpolicy::{CrlSource, RevocationPolicy};

/// Strict throughout: whoever writes this kind wants revoked clients refused.
pub(in crate::resources) const REVOCATION_POLICY: Schema = Schema::Object(&Shape::strict(&object_fields(
    &METADATA,
    required(
        "spec",
        &Schema::Object(&Shape::strict(&[
            required("targetRefs", &Schema::List { item: &TARGET, min: 1, max: 16 }),
            optional("depth", &Schema::Word(&["Chain", "Leaf"])),
            optional("onUnknown", &Schema::Word(&["Deny", "Allow"])),
            optional("maxStaleness", &DURATION),
            optional("answer", &Schema::Word(&["Http400", "CloseConnections", "TlsAlert"])),
            required("sources", &Schema::List { item: &SOURCE, min: 1, max: 16 }),
        ])),
    ),
)));

const TARGET: Schema = Schema::Object(&Shape::strict(&[
    required("group", &GROUP),
    required("kind", &KIND),
    required("name", &NAME),
    optional("sectionName", &SECTION),
]));

const SOURCE: Schema = Schema::Object(&Shape::strict(&[optional("crl", &CRL), optional("ocsp", &OCSP)]));

const CRL: Schema = Schema::Object(&Shape::strict(&[
    optional("secretRef", &CRL_REF),
    optional("configMapRef", &CRL_REF),
    optional("path", &text(Form::Free, 4096)),
    optional("url", &text(Form::Free, 2048)),
    optional("refresh", &DURATION),
    optional("distributionPoints", &Schema::Object(&Shape::strict(&[optional("allowedHosts", &HOSTS)]))),
]));

const CRL_REF: Schema =
    Schema::Object(&Shape::strict(&[required("name", &NAME), optional("key", &text(Form::DataKey, 253))]));

const OCSP: Schema = Schema::Object(&Shape::strict(&[
    optional("allowedHosts", &HOSTS),
    optional("url", &text(Form::Free, 2048)),
    optional("timeout", &DURATION),
    optional("mode", &Schema::Word(&["HardFail", "SoftFail"])),
]));

const HOSTS: Schema = Schema::List { item: &PRECISE_HOSTNAME, min: 0, max: 64 };

/// Each source is of one sort. What a policy may be attached to is for translation to answer, in its status.
pub(in crate::resources) fn revocation_policy(policy: &Object<RevocationPolicy>, faults: &mut Faults) {
    for (index, source) in policy.spec.sources.iter().enumerate() {
        let field = format!("spec.sources[{index}]");
        match (&source.crl, &source.ocsp) {
            (None, None) => faults.error(Code::MissingField, field, "needs `crl` or `ocsp`"),
            (Some(_), Some(_)) => {
                faults.error(
                    Code::Contradiction,
                    field,
                    "takes `crl` or `ocsp`, not both; make two entries of it",
                );
            }
            (Some(crl), None) => one_place(crl, &format!("{field}.crl"), faults),
            (None, Some(_)) => {}
        }
    }
}

fn one_place(crl: &CrlSource, field: &str, faults: &mut Faults) {
    let places = [
        ("secretRef", crl.secret_ref.is_some()),
        ("configMapRef", crl.config_map_ref.is_some()),
        ("path", crl.path.is_some()),
        ("url", crl.url.is_some()),
        ("distributionPoints", crl.distribution_points.is_some()),
    ];
    let named: Vec<&str> = places.iter().filter(|(_, named)| *named).map(|(name, _)| *name).collect();
    match named.as_slice() {
        [_] => {}
        [] => {
            let words = "needs one of `secretRef`, `configMapRef`, `path`, `url`, `distributionPoints`";
            faults.error(Code::MissingField, field, words);
        }
        more => {
            let words = format!("takes one of `{}`; make an entry of each", more.join("`, `"));
            faults.error(Code::Contradiction, field, words);
        }
    }
    if crl.refresh.is_some() && crl.url.is_none() {
        faults.error(
            Code::Contradiction,
            format!("{field}.refresh"),
            "belongs to `url`: other sources are followed",
        );
    }
}
