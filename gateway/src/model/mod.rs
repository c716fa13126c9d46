//! The nouns of the gateway: plain data that every layer speaks, free of I/O, clock, Kubernetes and libraries that do
//! either. `translate` makes a [`Plan`] and a [`Report`] of what the user wrote; `app::build` makes a snapshot of the
//! plan; the data plane reads the snapshot.

pub mod backend;
pub mod crl;
pub mod datapath;
pub mod deny;
pub mod identity;
pub mod listener;
pub mod name;
pub mod plan;
pub mod report;
pub mod revocation;
pub mod route;
pub mod secret;
pub mod trust;
pub mod verdict;

pub use gateway_common::Reason;

pub use backend::{Backend, BackendKey, BackendProtocol, Endpoint};
pub use crl::{CrlEntry, CrlHolders, CrlNumber, CrlScope};
pub use identity::Identity;
pub use listener::{
    CertificateChain, ClientValidation, Frontend, FrontendId, Listener, Protocol, TlsTermination,
    ValidationMode,
};
pub use name::{Hostname, ObjectName};
pub use plan::{Facts, Plan};
pub use report::{Condition, Finding, ObjectStatus, Report, Severity};
pub use revocation::{
    ClientRevocation, OnUnknown, RevocationAnswer, RevocationDepth, RevocationFreshness, RevocationRules,
};
pub use route::{Action, Filter, HeaderEdit, PathMatch, RequestMatch, Rule};
pub use trust::{
    CrlMaterial, IssuerCertificate, IssuerId, PathCertificate, Serial, TrustBundle, VerifiedPath,
};
pub use verdict::{Refusal, Revocation, RevocationReason, RevocationStatus};
