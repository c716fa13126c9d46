//! What tells trust domains apart: everything that decides whether a client is accepted, revocation data aside. Tickets
//! are bound to it.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};

use crate::model::{
    OnUnknown, RevocationAnswer, RevocationDepth, RevocationRules, TrustBundle, ValidationMode,
};
use crate::tls::certificate::sha256;

/// SHA-256 over anchors, mode, names, the v1 setting and revocation rules, whatever their order.
pub(super) fn domain_id(
    bundle: &TrustBundle,
    mode: ValidationMode,
    names: &[Arc<str>],
    accept_v1_leaf: bool,
    rules: Option<&RevocationRules>,
) -> [u8; 32] {
    let mut anchors: Vec<[u8; 32]> = bundle.anchors.iter().map(|anchor| sha256(anchor)).collect();
    anchors.sort_unstable();
    anchors.dedup();
    let mut names: Vec<&str> = names.iter().map(|name| &**name).collect();
    names.sort_unstable();
    names.dedup();
    let mut id = Context::new(&SHA256);
    id.update(b"trust domain 3");
    id.update(&[u8::from(mode == ValidationMode::AllowInsecureFallback), u8::from(accept_v1_leaf)]);
    // Two objects may hold equal anchors and different revocation lists: they are two domains.
    let source = bundle.source.as_bytes();
    id.update(&(source.len() as u64).to_be_bytes());
    id.update(source);
    id.update(&(names.len() as u64).to_be_bytes());
    for name in names {
        id.update(&(name.len() as u64).to_be_bytes());
        id.update(name.as_bytes());
    }
    identify_rules(&mut id, rules);
    anchors.iter().for_each(|anchor| id.update(anchor));
    let mut out = [0; 32];
    out.copy_from_slice(id.finish().as_ref());
    out
}

fn identify_rules(id: &mut Context, rules: Option<&RevocationRules>) {
    id.update(&[u8::from(rules.is_some())]);
    let Some(RevocationRules { policy, depth, on_unknown, staleness_max_s, answer }) = rules else { return };
    let answer = match answer {
        RevocationAnswer::Http400 => 0,
        RevocationAnswer::CloseConnections => 1,
        RevocationAnswer::TlsAlert => 2,
    };
    id.update(&(policy.len() as u64).to_be_bytes());
    id.update(policy.as_bytes());
    id.update(&[
        u8::from(*depth == RevocationDepth::Leaf),
        u8::from(*on_unknown == OnUnknown::Allow),
        answer,
    ]);
    id.update(&staleness_max_s.to_be_bytes());
}
