//! What becomes of a handshake.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::model::Reason;
use rustls::AlertDescription;

use super::json::Object;
use super::{Client, Connection, TlsFacts, connection, cut, head};
use crate::model::Identity;
use crate::telemetry::Telemetry;
use crate::telemetry::connections::{FailedHandshake, OpenConnection};
use crate::telemetry::labels::TlsVersion;
use crate::telemetry::metrics::ListenerMetrics;

/// A handshake in progress. It ends in [`complete`](Self::complete) or [`refuse`](Self::refuse); dropped before that it
/// counts as closed by the client.
#[derive(Debug)]
pub struct HandshakeOutcome {
    telemetry: Arc<Telemetry>,
    listener: Arc<ListenerMetrics>,
    open: Rc<OpenConnection>,
    at: SystemTime,
    started: Instant,
    hello: bool,
    sni: Option<Arc<str>>,
    version: TlsVersion,
    client: Option<Client>,
    end: End,
}

#[derive(Debug)]
enum End {
    /// Nobody said otherwise: the client went away.
    Open,
    Completed,
    Refused(Reason, Option<AlertDescription>),
}

impl HandshakeOutcome {
    /// Begins when the connection was accepted. `listener` is that of the frontend until the client's hello tells.
    pub fn begin(
        telemetry: &Arc<Telemetry>,
        listener: &Arc<ListenerMetrics>,
        open: &Rc<OpenConnection>,
    ) -> Self {
        Self {
            telemetry: Arc::clone(telemetry),
            listener: Arc::clone(listener),
            open: Rc::clone(open),
            at: SystemTime::now(),
            started: Instant::now(),
            hello: false,
            sni: None,
            version: TlsVersion::Unknown,
            client: None,
            end: End::Open,
        }
    }

    /// The client's hello was read. `sni` may be anything the client made up.
    pub fn hello(&mut self, sni: Option<&str>) {
        self.hello = true;
        self.sni = sni.map(|name| cut(name).into());
    }

    /// The listener that the hello chose.
    pub fn listener(&mut self, listener: &Arc<ListenerMetrics>) {
        self.listener = Arc::clone(listener);
    }

    /// The version that was agreed on, for handshakes that fail later.
    pub fn version(&mut self, version: TlsVersion) {
        self.version = version;
    }

    /// The certificate that the client sent, before anything of it is believed.
    pub fn client(&mut self, identity: Arc<Identity>) {
        self.client = Some(Client { identity, verified: false });
    }

    /// The handshake succeeded: counts it and gives what the connection's requests have in common.
    /// `facts.handshake` is set here.
    pub fn complete(mut self, mut facts: TlsFacts, client: Option<Client>) -> Connection {
        facts.handshake = self.started.elapsed();
        self.end = End::Completed;
        self.listener.handshake_completed(facts.version, facts.resumed, facts.handshake);
        let (id, local) = (self.open.id, self.open.origin.local);
        Connection { id, peer: self.open.client(), local, tls: Some(facts), client }
    }

    /// The PROXY header before the handshake was read, or there is no handshake: another record follows this one.
    pub fn proxied(mut self) {
        self.end = End::Completed;
    }

    /// The handshake ended without a connection; `alert` is what the client was told.
    pub fn refuse(mut self, reason: Reason, alert: Option<AlertDescription>) {
        self.end = End::Refused(reason, alert);
    }
}

impl Drop for HandshakeOutcome {
    fn drop(&mut self) {
        let (reason, alert) = match self.end {
            End::Completed => return,
            End::Refused(reason, alert) => (reason, alert),
            End::Open => (Reason::HandshakeClosed, None),
        };
        self.listener.handshake_failed(reason, self.version);
        let failed =
            FailedHandshake { sni: self.sni.clone(), version: self.version, client: self.client.clone() };
        self.open.handshake_failed(reason, failed, &self.listener);
        // A connection that comes and goes without a word is a port probe: load balancers send several a second.
        let probe = reason == Reason::HandshakeClosed && !self.hello;
        if probe || !self.telemetry.access.sink.is_on() {
            return;
        }
        let mut line = Vec::with_capacity(1024);
        let mut object = Object::begin(&mut line);
        head(&mut object, "handshake", self.at, self.listener.name());
        connection(&mut object, self.open.id, self.open.client(), self.client.as_ref());
        object.object("tls", |object| {
            if self.version != TlsVersion::Unknown {
                object.text("version", self.version.as_str());
            }
            if let Some(alert) = alert {
                object.text("alert", alert_name(alert));
            }
        });
        object.text_if("sni", self.sni.as_deref());
        object.text("reason", reason.as_str());
        object.object("t", |object| object.millis("handshake_ms", self.started.elapsed()));
        object.end();
        line.push(b'\n');
        self.telemetry.access.sink.append(&line);
    }
}

/// The names of RFC 8446 §6 and RFC 6066 §9.
fn alert_name(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CloseNotify => "close_notify",
        AlertDescription::UnexpectedMessage => "unexpected_message",
        AlertDescription::BadRecordMac => "bad_record_mac",
        AlertDescription::RecordOverflow => "record_overflow",
        AlertDescription::HandshakeFailure => "handshake_failure",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::IllegalParameter => "illegal_parameter",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::AccessDenied => "access_denied",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::DecryptError => "decrypt_error",
        AlertDescription::ProtocolVersion => "protocol_version",
        AlertDescription::InsufficientSecurity => "insufficient_security",
        AlertDescription::InternalError => "internal_error",
        AlertDescription::InappropriateFallback => "inappropriate_fallback",
        AlertDescription::UserCanceled => "user_canceled",
        AlertDescription::MissingExtension => "missing_extension",
        AlertDescription::UnsupportedExtension => "unsupported_extension",
        AlertDescription::UnrecognisedName => "unrecognized_name",
        AlertDescription::CertificateRequired => "certificate_required",
        AlertDescription::NoApplicationProtocol => "no_application_protocol",
        _ => "other",
    }
}
