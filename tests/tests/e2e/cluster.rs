//! Configuration from a cluster that is not there.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;

use gateway_tests::tools::Killed;
use gateway_tests::{Curl, binary, ports, wait};
use tempfile::TempDir;

#[test]
fn without_its_api_server_a_gateway_waits_unready_whatever_it_is_asked() {
    let folder = TempDir::with_prefix("yett-cluster-").unwrap();
    let (config, socket) = (folder.path().join("kubeconfig"), folder.path().join("admin.sock"));
    let nobody = ports::free();
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, users: [{{name: u, user: {{token: t}}}}], \
         clusters: [{{name: k, cluster: {{server: 'http://127.0.0.1:{nobody}'}}}}], \
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]}}"
    );
    fs::write(&config, text).unwrap();
    let admin = SocketAddr::from(([127, 0, 0, 1], ports::free()));
    let mut yett = binary::command();
    yett.args(["run", "--kube", "--access-log", "off", "--admin", &admin.to_string()]);
    yett.arg("--admin-socket").arg(&socket).env("KUBECONFIG", &config).env("YETT_DATAPATH_MODE", "off");
    let log = fs::File::create(folder.path().join("stderr")).unwrap();
    yett.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let _gateway = Killed(yett.spawn().unwrap());
    let said = || fs::read_to_string(folder.path().join("stderr")).unwrap();
    wait::soon("a word of the server", || said().contains("the API server does not tell"));
    let ready = || Curl::to(admin).get(&format!("http://{admin}/readyz")).status;
    assert_eq!(ready(), 503);
    let reload = binary::command().arg("reload").arg("--admin-socket").arg(&socket).output().unwrap();
    assert!(!reload.status.success(), "{reload:?}");
    assert_eq!(ready(), 503, "nothing is served");
    assert!(!said().contains("configuration in service"), "{}", said());
}
