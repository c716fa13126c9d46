//! What clients of HTTP/2 do to servers: each of them ends at a limit that is counted, costs bounded memory, and costs a
//! bystander nothing.

use std::time::Duration;

use gateway_tests::client::frames::{END_HEADERS, END_STREAM, Over, field, frame, get, kind, request};
use gateway_tests::scene::Stage;
use gateway_tests::{Bystander, Frames, Scene, bystander, wait};

/// How much more memory an attack may take at its height.
const MEMORY_BYTES_MAX: u64 = 64 * 1024 * 1024;

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

const INITIAL_WINDOW_SIZE: u16 = 4;

/// A gateway with one worker, which the attacker and the bystander share.
struct Attack {
    scene: Scene,
    bystander: Bystander,
    name: String,
    resident: u64,
}

impl Attack {
    fn begin(name: &str, limits: &str) -> Self {
        let settings = format!("workers = 1\n[limits]\n{limits}\n");
        let scene = Stage::new().start_with(|start| start.settings(&settings));
        let bystander = Bystander::beside(&scene.tls(&scene.alice), scene.node.https());
        let resident = scene.node.resident_bytes();
        Self { scene, bystander, name: name.to_owned(), resident }
    }

    fn client(&self, settings: &[(u16, u32)]) -> Frames {
        Frames::open(&self.scene.tls(&self.scene.alice), self.scene.node.https(), settings)
    }

    fn hits(&self, limit: &str) -> f64 {
        self.scene.node.metrics().sum("yett_limit_hits_total", &[("limit", limit)])
    }

    /// How many requests have reached the backend, but for the bystander's.
    fn reached(&self) -> usize {
        let theirs = self.scene.backend.requests();
        theirs.iter().filter(|request| request.target != bystander::PATH).count()
    }

    /// The attack is over: it was counted, cost little memory, and the bystander is served as before.
    #[allow(clippy::print_stdout, reason = "what an attack costs is to be read")]
    fn end(self, limit: &str, hits: f64) {
        self.scene.node.wait_metric("yett_limit_hits_total", &[("limit", limit)], hits);
        self.bystander.goes_on();
        let (served, slowest) = self.bystander.finish();
        let grown = self.scene.node.resident_peak_bytes().saturating_sub(self.resident);
        println!(
            "{}: {} KiB more at the height, {} requests at the backend, bystander: {served} served, slowest {slowest:?}",
            self.name,
            grown / 1024,
            self.scene.backend.count() - served,
        );
        assert!(grown <= MEMORY_BYTES_MAX, "{}: {grown} bytes more", self.name);
    }
}

/// Told in order by a GOAWAY with this code and these words.
fn sent_away(over: &Over, words: &str) {
    assert_eq!(over.go_away, Some((ENHANCE_YOUR_CALM, words.to_owned())), "{over:?}");
    assert!(over.closed, "{over:?}");
}

/// The client's streams.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|number| 2 * number + 1)
}

fn data(stream: u32, flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, stream, bytes)
}

#[test]
fn rapid_resets_end_the_connection() {
    let attack = Attack::begin("rapid reset", "");
    let reset = |stream| frame(kind::RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    let bytes: Vec<u8> =
        streams(10_000).flat_map(|stream| [request(stream, "/attack"), reset(stream)].concat()).collect();
    let over = attack.client(&[]).flood(&[&bytes], |_| false);
    sent_away(&over, "too_many_resets");
    // Those of the first read that were looked at before their reset.
    assert!(attack.reached() <= 128, "{}", attack.reached());
    attack.end("http2_pending_resets_max", 1.0);
}

#[test]
fn resets_that_the_client_provokes_end_the_connection() {
    let head =
        |stream, more: &[u8]| frame(kind::HEADERS, END_HEADERS, stream, &[&get("/attack"), more].concat());
    let window = |stream| frame(kind::WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]);
    let length = field("content-length", "2");
    for (name, provoke, code) in [
        (
            "window over its bounds",
            &(|stream| [head(stream, &[]), window(stream)].concat()) as &dyn Fn(u32) -> Vec<u8>,
            FLOW_CONTROL_ERROR,
        ),
        (
            "body longer than it says",
            &|stream| [head(stream, &length), data(stream, 0, b"12"), data(stream, 0, b"3")].concat(),
            PROTOCOL_ERROR,
        ),
    ] {
        let attack = Attack::begin(&format!("MadeYouReset, {name}"), "http2_local_resets_max = 50");
        let bytes: Vec<u8> = streams(1000).flat_map(provoke).collect();
        let over = attack.client(&[]).flood(&[&bytes], |_| false);
        sent_away(&over, "too_many_internal_resets");
        assert!(over.resets.iter().all(|(_, reset)| *reset == code), "{name}: {over:?}");
        assert!(attack.reached() <= 50 + 128, "{name}: {}", attack.reached());
        attack.end("http2_local_resets_max", 1.0);
    }
}

#[test]
fn faults_that_end_the_connection_at_once_provoke_no_resets() {
    let open = frame(kind::HEADERS, END_HEADERS, 1, &get("/attack"));
    for (name, fault) in [
        ("window update of 0", frame(kind::WINDOW_UPDATE, 0, 1, &[0; 4])),
        ("data after the end", [data(1, END_STREAM, b"x"), data(1, 0, b"y")].concat()),
    ] {
        let attack = Attack::begin(&format!("MadeYouReset, {name}"), "");
        let over = attack.client(&[]).flood(&[&[&open[..], &fault].concat()], |_| false);
        assert_eq!(over.go_away, Some((PROTOCOL_ERROR, String::new())), "{name}: {over:?}");
        assert!(over.closed && over.resets.is_empty() && attack.reached() <= 1, "{name}: {over:?}");
        // A fault, and no limit.
        assert_eq!(attack.hits("http2_local_resets_max"), 0.0, "{name}");
        attack.end("http2_local_resets_max", 0.0);
    }
}

#[test]
fn a_head_without_end_ends_the_connection() {
    let attack = Attack::begin("CONTINUATION flood", "");
    let begin = frame(kind::HEADERS, END_STREAM, 1, &get("/attack"));
    let more = frame(kind::CONTINUATION, 0, 1, &field("x", "y"));
    let over = attack.client(&[]).flood(&[&begin, &more.repeat(50_000)], |_| false);
    sent_away(&over, "too_many_continuations");
    assert_eq!(attack.reached(), 0);
    attack.end("http2_continuations_max", 1.0);
}

/// A field of 3,500 bytes that is put into the table, and so many times its index, a byte each.
fn bomb(stream: u32, times: usize) -> Vec<u8> {
    let (length, value) = (3500 - 127, "v".repeat(3500));
    let length = [0x7f, u8::try_from(length & 0x7f | 0x80).unwrap(), u8::try_from(length >> 7).unwrap()];
    let literal = [&[0x40, 1, b'x'], &length[..], value.as_bytes()].concat();
    let block = [get("/attack"), literal, vec![0xbe; times]].concat();
    frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &block)
}

#[test]
fn a_bomb_of_fields_ends_the_connection() {
    let attack = Attack::begin("HPACK bomb", "");
    // 12,000 bytes that stand for 42 million.
    let over = attack.client(&[]).flood(&[&bomb(1, 12_000)], |_| false);
    sent_away(&over, "header_list_way_too_large");
    assert_eq!(attack.reached(), 0);
    attack.end("request_head_bytes_max", 1.0);
}

#[test]
fn a_small_bomb_is_answered_again_and_again_and_costs_nothing() {
    let attack = Attack::begin("HPACK bombs below the limit of the connection", "");
    let mut client = attack.client(&[]);
    // Over the limit of a head, but not four times as large: such a request is answered 431, and the connection stays.
    for stream in streams(100) {
        let over = client.flood(&[&bomb(stream, 30)], |over| over.done.contains(&stream));
        assert!(!over.closed && over.go_away.is_none(), "{over:?}");
    }
    let over = client.flood(&[&request(1001, "/after")], |over| over.done.contains(&1001));
    assert_eq!(over.heads, [(1001, 0x88)], "200, by the static table");
    assert_eq!(attack.reached(), 1);
    attack.end("request_head_bytes_max", 100.0);
}

/// `accept-encoding: gzip, deflate` by its index in the static table, a byte each.
fn tiny_fields(count: usize) -> Vec<u8> {
    vec![0x90; count]
}

#[test]
fn fields_are_counted_and_crumbs_of_cookies_too() {
    // A crumb of a cookie has its name from the static table (entry 32).
    for (name, fields) in
        [("tiny fields", tiny_fields(101)), ("cookie crumbs", [0x0f, 0x11, 1, b'c'].repeat(101))]
    {
        let attack = Attack::begin(name, "");
        let head = frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &[get("/attack"), fields].concat());
        let mut client = attack.client(&[]);
        let over = client.flood(&[&head], |over| over.done.contains(&1));
        // A status that is in no table.
        assert_eq!(over.heads[0].1 & 0xc0, 0x40, "{over:?}");
        assert_eq!(attack.reached(), 0, "{name}");
        let lines = attack.scene.node.lines(1, |line| line["reason"] == "header_fields_too_large");
        assert_eq!(lines[0]["status"], 431);
        attack.end("request_fields_max", 1.0);
    }
}

#[test]
fn an_answer_that_is_given_no_window_is_let_go_of() {
    let attack = Attack::begin("zero window", "response_stall_timeout = \"1s\"");
    let mut client = attack.client(&[(INITIAL_WINDOW_SIZE, 0)]);
    // Answers of the backend, and our own.
    let refused = [get("/attack"), tiny_fields(101)].concat();
    let bytes: Vec<u8> = streams(100)
        .flat_map(|stream| match stream {
            ..190 => request(stream, "/bytes/10000000"),
            _ => frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &refused),
        })
        .collect();
    let over = client.flood(&[&bytes], |over| over.resets.len() == 100);
    assert!(over.resets.iter().all(|(_, code)| *code == CANCEL), "{over:?}");
    assert!(over.heads.len() == 100 && over.done.is_empty() && !over.closed, "{over:?}");
    // The bystander's is the one that is left.
    let open = || attack.scene.node.metrics().sum("yett_upstream_connections_active", &[]);
    wait::soon("connections to the backend to be closed", || open() <= 1.0);
    attack.end("response_stall_timeout", 100.0);
}

#[test]
fn an_answer_whose_last_part_is_not_taken_ends_the_connection() {
    let attack = Attack::begin("window of 1", "response_stall_timeout = \"1s\"\nclose_timeout = \"500ms\"");
    let mut client = attack.client(&[(INITIAL_WINDOW_SIZE, 1)]);
    let bytes: Vec<u8> = streams(100).flat_map(|stream| request(stream, "/attack")).collect();
    // One byte of each comes, and the rest is not ours to take back.
    let over = client.flood(&[&bytes], |_| false);
    assert!(over.closed && over.done.is_empty(), "{over:?}");
    assert_eq!(over.go_away, Some((0, String::new())), "{over:?}");
    attack.end("response_stall_timeout", 1.0);
}

/// The same, while another of its requests keeps the connection busy.
#[test]
fn answers_whose_last_part_is_not_taken_end_a_busy_connection_too() {
    let attack =
        Attack::begin("window of 1, busy", "response_stall_timeout = \"1s\"\nclose_timeout = \"500ms\"");
    let mut client = attack.client(&[(INITIAL_WINDOW_SIZE, 1)]);
    let begun = [request(1, "/held"), request(3, "/attack")].concat();
    client.send(&begun);
    wait::soon("both to have come", || attack.reached() == 2);
    // What is held is let go once the connection is on its way to the end: until then it is what keeps it busy.
    attack.scene.node.wait_metric("yett_limit_hits_total", &[("limit", "response_stall_timeout")], 1.0);
    attack.scene.backend.release();
    let over = client.over();
    assert!(over.closed && over.go_away.is_some_and(|(code, _)| code == 0), "not in order");
    attack.end("response_stall_timeout", 1.0);
}

#[test]
fn a_client_that_never_reads_is_cut_off() {
    let attack = Attack::begin("never reads", "response_stall_timeout = \"1s\"");
    let mut client = attack.client(&[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]);
    client.send(&frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0, 0, 0]));
    let bytes: Vec<u8> = streams(100).flat_map(|stream| request(stream, "/bytes/50000000")).collect();
    client.send(&bytes);
    let open = || attack.scene.node.metrics().sum("yett_upstream_connections_active", &[]);
    wait::soon("requests to be under way", || open() > 50.0);
    wait::soon("connections to the backend to be closed", || open() <= 1.0);
    let clients = || attack.scene.node.metrics().sum("yett_connections_active", &[]);
    wait::soon("its own connection to be closed", || clients() <= 1.0);
    attack.end("response_stall_timeout", 1.0);
}

#[test]
fn floods_of_frames_that_bring_nothing_end_the_connection() {
    let upload = frame(kind::HEADERS, END_HEADERS, 1, &get("/attack"));
    let ours = ("http2_control_frames_max", "");
    for (name, flood, (limit, words)) in [
        ("SETTINGS", frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]), ours),
        ("PING", frame(kind::PING, 0, 0, &[7; 8]), ours),
        ("WINDOW_UPDATE", frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), ours),
        ("WINDOW_UPDATE on a stream", frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]), ours),
        ("PRIORITY", frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 9]), ours),
        ("unknown", frame(0xbe, 0, 1, b"?"), ours),
        ("empty DATA", data(1, 0, b""), ("http2_small_data_frames_max", "too_many_data_frames")),
    ] {
        let attack = Attack::begin(&format!("{name} flood"), "");
        let over = attack.client(&[]).flood(&[&upload, &flood.repeat(20_000)], |_| false);
        sent_away(&over, words);
        assert!(attack.reached() <= 1, "{name}");
        attack.end(limit, 1.0);
    }
}

#[test]
fn streams_over_the_limit_are_refused_and_the_others_served() {
    let attack = Attack::begin("too many streams", "");
    let mut client = attack.client(&[]);
    let bytes: Vec<u8> = streams(300).flat_map(|stream| request(stream, "/held")).collect();
    let over = client.flood(&[&bytes], |over| over.resets.len() == 172);
    assert!(over.resets.iter().all(|(_, code)| *code == REFUSED_STREAM), "{over:?}");
    wait::soon("the others to reach the backend", || attack.reached() >= 128);
    assert_eq!(attack.reached(), 128);
    attack.scene.backend.release();
    let over = client.flood(&[], |over| over.done.len() == 128);
    assert!(!over.closed && over.go_away.is_none(), "{over:?}");
    attack.end("http2_streams_max", 172.0);
}

#[test]
fn a_beginning_without_end_is_not_waited_for() {
    let attack = Attack::begin("slow beginnings", "request_head_timeout = \"800ms\"");
    let tls = attack.scene.tls(&attack.scene.alice);
    let whole = frame(kind::HEADERS, END_HEADERS | END_STREAM, 3, &get("/attack"));
    for (hits, (name, bytes)) in [
        ("nothing", vec![]),
        ("half a preface", b"PRI * HTTP/2".to_vec()),
        ("a preface without settings", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Frames::silent(&tls, attack.scene.node.https());
        client.send(&bytes);
        assert!(client.over().closed, "{name}");
        attack.scene.node.wait_metric(
            "yett_limit_hits_total",
            &[("limit", "request_head_timeout")],
            f64::from(u32::try_from(hits).unwrap() + 1),
        );
    }
    for (name, bytes) in [
        ("half a head in its frame", whole[..20].to_vec()),
        ("half a head, and no continuation", frame(kind::HEADERS, END_STREAM, 3, &get("/attack"))),
    ] {
        let mut client = attack.client(&[]);
        // What begins is its second request: the first one's clock has been stopped.
        client.flood(&[&request(1, bystander::PATH)], |over| over.done.contains(&1));
        client.send(&bytes);
        assert!(client.over().closed, "{name}");
    }
    assert_eq!(attack.reached(), 0);
    // A connection that stands and asks for nothing is no such client.
    let mut idle = attack.client(&[]);
    wait::throughout("it stands", Duration::from_millis(1500), || attack.hits("request_head_timeout") < 6.0);
    let over = idle.flood(&[&request(1, "/late")], |over| over.done.contains(&1));
    assert_eq!(over.heads, [(1, 0x88)]);
    attack.end("request_head_timeout", 5.0);
}
