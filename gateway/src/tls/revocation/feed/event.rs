//! What became of each list, for the log, the metrics and the report.

use std::sync::Arc;

use super::super::index::{CRL_STALENESS_MAX_S, List};
use crate::model::{Finding, OnUnknown, RevocationRules, Severity};
use crate::telemetry::labels::CrlResult;
use crate::tls::Code;

/// What became of one list of a source, or of a source that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlEvent {
    /// The source's name (`Secret ns/name ca.crl`).
    pub source: Arc<str>,
    /// The list's issuer, RFC 4514 text; `None` where nothing could be read.
    pub issuer: Option<Arc<str>>,
    /// What became of it.
    pub outcome: CrlOutcome,
    /// What follows from it.
    pub terms: Terms,
    /// Whether this is said for the first time of this material: log and count it then. The report shows all.
    pub fresh: bool,
}

/// What follows where lists are old or missing, as far as there are words about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long data past its nextUpdate still decides, seconds.
    pub staleness_max_s: i64,
    /// Whether clients pass whose status is not known.
    pub lenient: bool,
}

impl Terms {
    /// Those of a policy; without one, the default.
    pub fn of(rules: Option<&RevocationRules>) -> Self {
        Self {
            staleness_max_s: rules.map_or(CRL_STALENESS_MAX_S, |rules| rules.staleness_max_s),
            lenient: rules.is_some_and(|rules| rules.on_unknown == OnUnknown::Allow),
        }
    }

    fn staleness(self) -> String {
        let seconds = self.staleness_max_s;
        match (seconds % 3600, seconds % 60) {
            (0, _) => format!("{} hours", seconds / 3600),
            (_, 0) => format!("{} minutes", seconds / 60),
            _ => format!("{seconds} seconds"),
        }
    }

    fn clients(self) -> &'static str {
        if self.lenient { "pass unchecked" } else { "are refused" }
    }
}

/// What became of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrlOutcome {
    /// It decides.
    InUse(CrlSummary),
    /// It is no longer in the material and decides on, since an issuer once covered stays so.
    Kept(CrlSummary),
    /// Its issuer is not in the bundle; it will be verified when a client brings the key.
    Waiting,
    /// It is not used.
    Rejected {
        /// Why, in one word; never `Ok`.
        result: CrlResult,
        /// Why, in a clause that has the list as its subject.
        message: String,
        /// Whether an earlier copy decides on. If not, clients are refused.
        kept: bool,
    },
}

/// A list in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlSummary {
    /// How many certificates it lists.
    pub entries: usize,
    /// CRLNumber, as text.
    pub number: Option<Arc<str>>,
    /// thisUpdate, Unix seconds.
    pub this_update: i64,
    /// nextUpdate, Unix seconds.
    pub next_update: Option<i64>,
    /// Length in DER, octets.
    pub size_bytes: usize,
    /// Whether it is up to date.
    pub currency: Currency,
}

/// Where a list stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Currency {
    /// Before nextUpdate.
    Current,
    /// Past nextUpdate, within the staleness allowance: it decides still.
    Late,
    /// Past the allowance: clients of its issuer are refused with `crl_expired`.
    Stale,
}

impl CrlSummary {
    pub(super) fn of(list: &List, terms: Terms, now: i64) -> Self {
        let currency = match now {
            _ if now <= list.current_until() => Currency::Current,
            _ if now <= list.decides_until(terms.staleness_max_s) => Currency::Late,
            _ => Currency::Stale,
        };
        Self {
            entries: list.table.len(),
            number: list.number_text.clone(),
            this_update: list.this_update,
            next_update: list.next_update,
            size_bytes: list.size_bytes,
            currency,
        }
    }
}

impl CrlEvent {
    /// The label of `yett_crl_loads_total`; `None` where nothing was loaded.
    pub fn result(&self) -> Option<CrlResult> {
        match &self.outcome {
            CrlOutcome::InUse(CrlSummary { currency: Currency::Stale, .. }) => Some(CrlResult::Expired),
            CrlOutcome::InUse(_) => Some(CrlResult::Ok),
            CrlOutcome::Kept(_) => None,
            CrlOutcome::Waiting => Some(CrlResult::WrongIssuer),
            CrlOutcome::Rejected { result, .. } => Some(*result),
        }
    }

    /// What the report says of it; `None` if all is well.
    pub fn finding(&self) -> Option<Finding> {
        let (code, severity, message, help) = self.words()?;
        // Kind and name have no spaces; a path may.
        let name_start = self.source.find(' ').map_or(0, |end| end + 1);
        let place = self.source[name_start..].find(' ').map(|end| name_start + end);
        let (object, place) = match place {
            Some(end) => (&self.source[..end], &self.source[end + 1..]),
            None => (&*self.source, ""),
        };
        let is_file = object.starts_with("RevocationPolicy ");
        let list = match &self.issuer {
            Some(issuer) => format!("the CRL of `{issuer}`"),
            None => "the CRL".to_owned(),
        };
        Some(Finding {
            code: code.as_str(),
            severity,
            file: None,
            line: 0,
            column: 0,
            object: object.to_owned(),
            field: match place {
                "" => String::new(),
                _ if is_file => "spec.sources".to_owned(),
                key => format!("data[\"{key}\"]"),
            },
            message: if is_file {
                format!("{list} in {place} {message}")
            } else {
                format!("{list} {message}")
            },
            help: Some(help.to_owned()),
        })
    }

    /// Code, severity, what there is to say with the list as its subject, and what to do.
    fn words(&self) -> Option<(Code, Severity, String, &'static str)> {
        let publish = "publish a current list";
        Some(match &self.outcome {
            CrlOutcome::InUse(CrlSummary { currency: Currency::Late, .. }) => {
                let message =
                    format!("is past its nextUpdate; it decides for {} more", self.terms.staleness());
                (Code::CrlLate, Severity::Warning, message, publish)
            }
            CrlOutcome::InUse(CrlSummary { currency: Currency::Stale, .. }) => {
                let (staleness, clients) = (self.terms.staleness(), self.terms.clients());
                let message =
                    format!("is past its nextUpdate by more than {staleness}; its clients {clients}");
                (Code::CrlStale, Severity::Error, message, publish)
            }
            CrlOutcome::InUse(CrlSummary { number: None, .. }) => {
                let message = "has no CRLNumber; an older list is told by its thisUpdate alone".to_owned();
                (
                    Code::CrlUnnumbered,
                    Severity::Warning,
                    message,
                    "let the authority number its lists (RFC 5280 §5.2.3)",
                )
            }
            CrlOutcome::InUse(_) => return None,
            CrlOutcome::Kept(_) => {
                let message = "is no longer in the material; the last one decides on".to_owned();
                (Code::CrlKept, Severity::Warning, message, "put it back, or remove the key to stop checking")
            }
            CrlOutcome::Waiting => {
                let message =
                    "is of an issuer that is not in the bundle; it waits for a client that brings the \
                               issuer's certificate"
                        .to_owned();
                (
                    Code::CrlWaiting,
                    Severity::Warning,
                    message,
                    "if this issuer is to be trusted, add it to ca.crt",
                )
            }
            CrlOutcome::Rejected { message, kept: true, .. } => {
                let message = format!("is not used, the last good one decides on: {message}");
                (Code::CrlSuperseded, Severity::Error, message, publish)
            }
            CrlOutcome::Rejected { message, kept: false, .. } => {
                let message = format!("is not used, and clients {} for it: {message}", self.terms.clients());
                (
                    Code::CrlUnusable,
                    Severity::Error,
                    message,
                    "correct the list, or remove the key to stop checking",
                )
            }
        })
    }
}
