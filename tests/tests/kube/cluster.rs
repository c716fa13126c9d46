//! The cluster that other tests stand on: it comes up, runs pods as Kubernetes does, and leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use gateway_tests::kube::nodelet::Image;
use gateway_tests::kube::{Channel, Cluster, Options, Programs};
use gateway_tests::{tools, wait};
use serde_json::Value;

const TEST: &str = "cluster::pods_run_as_kubernetes_has_it_and_nothing_is_left";

/// How long what the cluster does by itself may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a pod that ends when it is told may take to be gone, when somebody waits for it.
const GONE: Duration = Duration::from_secs(5);

const ECHO: &str = r#"
apiVersion: v1
kind: Secret
metadata: {name: told}
stringData: {word: first}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: echo}}}
      containers:
      - name: echo
        image: registry.example/gateway-api/conformance/echo-basic:v0.1.0
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        ports: [{containerPort: 3000}]
        readinessProbe: {httpGet: {port: 3000, path: /}, periodSeconds: 1}
        volumeMounts: [{name: told, mountPath: /told}]
      volumes: [{name: told, secret: {secretName: told}}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{port: 80, targetPort: 3000}]
"#;

/// A pod that says what it sees; one whose program dies at first, and that is ended by a hook that writes to its node.
const TOLD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: teller}
spec:
  nodeName: node-1
  securityContext: {runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}
  containers:
  - name: teller
    image: tools
    command: [/usr/bin/python3, -u, -c]
    args:
    - |
      import os, time, ssl, json, urllib.request
      account = "/var/run/secrets/kubernetes.io/serviceaccount/"
      token = open(account + "token").read()
      host = os.environ["KUBERNETES_SERVICE_HOST"]
      request = urllib.request.Request(f"https://{host}/apis", headers={"Authorization": "Bearer " + token})
      trust = ssl.create_default_context(cafile=account + "ca.crt")
      print("groups", len(json.load(urllib.request.urlopen(request, context=trust))["groups"]))
      print("ids", os.getuid(), os.getgid(), os.getgroups())
      print("caps", [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapBnd")][0])
      try:
          open("/written", "w")
      except OSError as error:
          print("root", error.errno)
      print("named", open("/etc/hostname").read().strip(), os.environ["LONG"])
      told = ""
      while True:
          now = open("/told/word").read()
          if now != told:
              print("told", now)
          told = now
          time.sleep(0.02)
    env:
    - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: LONG, value: "$(NAME)-on-a-node"}
    securityContext:
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}
    volumeMounts: [{name: told, mountPath: /told}]
  volumes: [{name: told, secret: {secretName: told, items: [{key: word, path: word}]}}]
---
apiVersion: v1
kind: Pod
metadata: {name: falling}
spec:
  hostNetwork: true
  nodeName: node-2
  containers:
  - name: falling
    image: tools
    command: [/bin/sh, -c]
    args: ["[ -e /kept/fallen ] || { touch /kept/fallen; echo falls; exit 3; }; echo stands; exec sleep 1000"]
    lifecycle: {preStop: {exec: {command: [/usr/bin/touch, /shared/ended]}}}
    volumeMounts:
    - {name: kept, mountPath: /kept}
    - {name: shared, mountPath: /shared}
  volumes:
  - {name: kept, emptyDir: {}}
  - {name: shared, hostPath: {path: /var/shared, type: DirectoryOrCreate}}
"#;

#[test]
fn pods_run_as_kubernetes_has_it_and_nothing_is_left() {
    for tool in ["ip", "unshare", "nsenter", "setpriv", "curl", "python3"] {
        if tools::need(tool, TEST).is_none() {
            return;
        }
    }
    let programs = match Programs::built() {
        Ok(programs) => programs,
        Err(error) => return tools::skip(TEST, &error.to_string()),
    };
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        nodes: 2,
        proxy: false,
        channel: Channel::Standard,
        images: vec![Image::echo(programs.path("echo-basic")), Image::tools()],
    };
    let begun = Instant::now();
    let cluster = Cluster::up(folder.path(), &options, &mut |line| println!("{line}")).unwrap();
    println!("up in {:?}", begun.elapsed());
    // What another cluster, or its end, does is nothing to this one.
    assert!(Cluster::up(folder.path(), &options, &mut |_| {}).is_err(), "one runs here already");

    cluster.apply(ECHO).unwrap();
    cluster.apply(TOLD).unwrap();
    let ready = "--for=jsonpath={.status.readyReplicas}=2";
    cluster.kubectl(&["wait", ready, "deployment/echo", "--timeout=120s"]).unwrap();
    println!("two replicas are ready after {:?}", begun.elapsed());

    deployment(&cluster);
    told(&cluster);
    restarted(&cluster);
    gateways(&cluster);
    ends(&cluster);
    api_server(&cluster);

    let left = left_over(&cluster);
    cluster.down().unwrap();
    assert!(!left.is_empty(), "the cluster had processes");
    for process in left {
        assert!(!Path::new("/proc").join(&process).exists(), "process {process} is left");
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&folder.path().display().to_string()), "{mounts}");
    assert!(Cluster::at(folder.path()).is_err());
}

/// Both nodes have one replica, which answers from there, is an endpoint of its Service, and has a log.
fn deployment(cluster: &Cluster) {
    let pods = list(cluster, "pods", "app=echo");
    let nodes: BTreeSet<&str> = pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str()).collect();
    assert_eq!(nodes, BTreeSet::from(["node-1", "node-2"]));
    for pod in &pods {
        let (name, address) = (text(&pod["metadata"]["name"]), text(&pod["status"]["podIP"]));
        let answer = tools::run(cluster.command("curl").args([
            "-sS",
            "-m",
            "10",
            &format!("http://{address}:3000/asked"),
        ]));
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((text(&answer["pod"]), text(&answer["path"])), (name.clone(), "/asked".to_owned()));
        let log = cluster.kubectl(&["logs", &name]).unwrap();
        assert!(log.contains("Starting server, listening on port 3000"), "{log}");
        let later = cluster.kubectl(&["logs", &name, "--since-time=2100-01-01T00:00:00Z"]).unwrap();
        assert_eq!(later, "", "nothing is as young as that");
    }
    let addresses: BTreeSet<String> = pods.iter().map(|pod| text(&pod["status"]["podIP"])).collect();
    wait::until("the Service to have both endpoints", PATIENCE, || {
        let slices = list(cluster, "endpointslices", "kubernetes.io/service-name=echo");
        let endpoints =
            slices.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let found: BTreeSet<String> = ready.map(|endpoint| text(&endpoint["addresses"][0])).collect();
        (found == addresses).then_some(())
    });
}

/// A pod has an account, the user, the rights and the files that it asks for; a Secret that is changed changes there.
fn told(cluster: &Cluster) {
    let says = |what: &str| {
        wait::until(what, PATIENCE, || {
            let log = cluster.kubectl(&["logs", "teller"]).unwrap_or_default();
            log.lines().any(|line| line.starts_with(what)).then_some(log)
        })
    };
    let log = says("told first");
    for line in ["ids 1000 1000 [2000]", "caps 0000000000000400", "root 30", "named teller teller-on-a-node"]
    {
        assert!(log.lines().any(|said| said == line), "{line} is not in:\n{log}");
    }
    assert!(log.starts_with("groups "), "{log}");
    let changed = Instant::now();
    cluster
        .kubectl(&["patch", "secret", "told", "--patch", r#"{"stringData": {"word": "second"}}"#])
        .unwrap();
    says("told second");
    println!("a Secret reached its volume within {:?}", changed.elapsed());
}

/// A program that ends is started again; its former log is kept.
fn restarted(cluster: &Cluster) {
    wait::until("the pod to stand", PATIENCE, || {
        let log = cluster.kubectl(&["logs", "falling"]).ok()?;
        log.contains("stands").then_some(())
    });
    assert_eq!(cluster.kubectl(&["logs", "falling", "--previous"]).unwrap().trim(), "falls");
    wait::until("the restart to be told", PATIENCE, || {
        let pod = cluster.kubectl(&["get", "pod", "falling", "--output=json"]).unwrap();
        let pod: Value = serde_json::from_str(&pod).unwrap();
        let status = &pod["status"]["containerStatuses"][0];
        let is_told = status["restartCount"] == 1 && status["lastState"]["terminated"]["exitCode"] == 3;
        // On the node's own network.
        (is_told && pod["status"]["podIP"] == "10.10.0.12" && status["ready"] == true).then_some(())
    });
}

/// The Gateway API is there.
fn gateways(cluster: &Cluster) {
    let refused = cluster.apply(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: c}, spec: {}}",
    );
    assert!(refused.unwrap_err().to_string().contains("controllerName"), "its schema holds");
}

/// Pods that are deleted are told, and are gone at once.
fn ends(cluster: &Cluster) {
    let begun = Instant::now();
    cluster.kubectl(&["delete", "deployment/echo", "pod/teller", "pod/falling", "--wait=false"]).unwrap();
    wait::until("all pods to be gone", PATIENCE, || list(cluster, "pods", "").is_empty().then_some(()));
    let took = begun.elapsed();
    println!("pods were gone within {took:?}");
    assert!(took < GONE, "{took:?}");
    let trace = cluster.folder().join("nodes/node-2/host/var/shared/ended");
    assert!(trace.exists(), "the hook before the end has run, and its volume lies on the node");
}

/// The API server is killed and started; what it knew it knows.
fn api_server(cluster: &Cluster) {
    cluster.kill("kube-apiserver").unwrap();
    assert!(cluster.kubectl(&["get", "nodes", "--request-timeout=2s"]).is_err());
    cluster.start("kube-apiserver").unwrap();
    wait::until("the API server to be back", PATIENCE, || cluster.kubectl(&["get", "secret", "told"]).ok());
}

/// The processes that name the cluster's folder.
fn left_over(cluster: &Cluster) -> Vec<String> {
    let folder = cluster.folder().display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| {
            let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains(&folder)
        })
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}

fn list(cluster: &Cluster, kind: &str, label: &str) -> Vec<Value> {
    let text = cluster.kubectl(&["get", kind, "--selector", label, "--output=json"]).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
