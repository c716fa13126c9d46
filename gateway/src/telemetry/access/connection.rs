//! The record of a connection, written when it ends; and the same of one that is open, for whoever asks.

use super::json::Object;
use super::{AccessLog, address, client, cut, head};
use crate::model::Reason;
use crate::telemetry::connections::{Account, KernelRecord, Known, TcpInfo};
use crate::telemetry::labels::TlsVersion;

impl AccessLog {
    /// Writes the record of a connection, if records are wanted.
    pub(in crate::telemetry) fn connection_closed(&self, account: &Account<'_>) {
        if self.records_connections && self.sink.is_on() {
            let mut line = account.json();
            line.push(b'\n');
            self.sink.append(&line);
        }
    }
}

impl Account<'_> {
    /// As an object of JSON.
    pub(in crate::telemetry) fn json(&self) -> Vec<u8> {
        let mut object = Vec::with_capacity(1024);
        write(&mut object, self);
        object
    }
}

fn write(out: &mut Vec<u8>, account: &Account<'_>) {
    let Account { open, end, tcp, kernel } = account;
    let known = open.known();
    let mut object = Object::begin(out);
    head(&mut object, "connection", known.at, known.listener.name());
    object.object("connection", |object| {
        object.plain("id", |out| open.id.write(out));
        object.number("worker", open.origin.worker as u64);
        object.boolean("local", open.origin.is_local);
        object.text_if("protocol", known.http.map(|http| http.as_str()));
        object.number("requests", known.requests);
        object.text_if("end", end.map(|end| end.as_str()));
    });
    who(&mut object, &known);
    if known.client != open.origin.peer {
        object.object("proxy", |object| object.plain("addr", |out| address(out, open.origin.peer)));
    }
    object.text("verdict", known.verdict.as_str());
    object.text_if("reason", known.reason.map(Reason::as_str));
    if let Some(tcp) = tcp {
        object.number("bytes_in", tcp.bytes_in(known.read_to_end));
        object.number("bytes_out", tcp.bytes_out());
        object.object("tcp", |object| tcp_members(object, tcp));
    }
    object.object("kernel", |object| kernel_members(object, kernel));
    object.object("t", |object| times(object, account, &known));
    object.end();
}

/// The client, what its handshake agreed on or how far it came, the server name.
fn who(object: &mut Object<'_>, known: &Known) {
    let Known { facts, failed, .. } = known;
    let identity = match (facts, failed) {
        (Some(facts), _) => facts.client.as_ref(),
        (None, failed) => failed.as_ref().and_then(|failed| failed.client.as_ref()),
    };
    client(object, known.client, identity);
    let agreed = facts.as_ref().and_then(|facts| facts.tls.as_ref());
    object.object("tls", |object| match (agreed, failed) {
        (Some(tls), _) => {
            object.text("version", tls.version.as_str());
            object.text_if("cipher", tls.cipher);
            object.text_if("group", tls.group);
            object.boolean("resumed", tls.resumed);
        }
        (None, Some(failed)) if failed.version != TlsVersion::Unknown => {
            object.text("version", failed.version.as_str());
        }
        (None, _) => {}
    });
    let sni = match (agreed, failed) {
        (Some(tls), _) => tls.sni.as_deref(),
        (None, failed) => failed.as_ref().and_then(|failed| failed.sni.as_deref()),
    };
    object.text_if("sni", sni.map(cut));
}

fn tcp_members(object: &mut Object<'_>, tcp: &TcpInfo) {
    if let Some(min_rtt) = tcp.min_rtt {
        object.millis("min_rtt_ms", min_rtt);
    }
    object.millis("rtt_ms", tcp.rtt);
    object.number("segments_in", tcp.segments_in.into());
    object.number("segments_out", tcp.segments_out.into());
    object.number("retransmits", tcp.retransmits.into());
    object.number("bytes_retransmitted", tcp.bytes_retransmitted);
    object.number("out_of_order", tcp.out_of_order.into());
    object.number("ce", tcp.delivered_ce.into());
}

fn kernel_members(object: &mut Object<'_>, kernel: &KernelRecord) {
    let KernelRecord { syn_tries, wire_in, zero_windows, .. } = kernel;
    if let Some(tries) = syn_tries {
        object.number("syn_tries", (*tries).into());
    }
    if let Some(wire) = wire_in {
        object.number("wire_packets_in", wire.packets);
        object.number("wire_bytes_in", wire.bytes);
    }
    if let Some(count) = zero_windows {
        object.number("zero_windows", (*count).into());
    }
}

fn times(object: &mut Object<'_>, account: &Account<'_>, known: &Known) {
    let Account { open, kernel, .. } = account;
    object.millis("total_ms", known.age);
    let handshake = known.facts.as_ref().and_then(|facts| facts.tls.as_ref()).map(|tls| tls.handshake);
    for (name, span) in [
        ("handshake_ms", handshake),
        ("handshake_cpu_ms", known.handshake_cpu),
        ("handshake_rtt_ms", open.origin.rtt),
        ("syn_to_established_ms", kernel.syn_to_established),
        ("established_to_accept_ms", kernel.established_to_accept),
        ("syn_to_hello_ms", kernel.syn_to_hello),
        ("hello_to_read_ms", kernel.hello_to_read),
    ] {
        if let Some(span) = span {
            object.millis(name, span);
        }
    }
}
