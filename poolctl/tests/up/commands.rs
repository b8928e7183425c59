//! The commands that look into a running stack.

use std::fs;
use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::stack::{Models, Stack, run, stderr, stdout, until};
use crate::tree::held_out;

#[test]
fn commands_show_the_running_stack() {
    let models = Models::with_digits("  scaleToZeroAfter: 5m\n  objective: {latency: 10s}\n  gpu: {}");
    let stack = Stack::start(&models, &["--pool", "1"]);
    let server = format!("http://{}", stack.admin);
    let command = |arguments: &[&str]| {
        let output = run(&[arguments, &["--server", &server]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        stdout(&output)
    };
    let explained = |arguments: &[&str]| -> Value {
        serde_json::from_str(&command(&[&["explain"], arguments, &["-o", "json"]].concat())).unwrap()
    };
    let before = explained(&["digits"]);
    assert_eq!(before["nextRequest"]["outcome"], "cold-start");
    assert_eq!(
        (&before["plan"]["fit"], &before["plan"]["variants"][0]["evidence"]),
        (&json!("unmeasured"), &json!("prior"))
    );
    let (images, _) = held_out(1);
    assert_eq!(stack.post("/v1/models/digits:predict", &[], &json!({"instances": images})).status, 200);

    let status: Value = serde_json::from_str(&command(&["status", "--output", "json"])).unwrap();
    let model = &status["models"][0];
    assert_eq!((&model["name"], &model["namespace"]), (&json!("digits"), &json!("default")));
    assert_eq!(model["url"], format!("http://{}/v2/models/digits", stack.address));
    let conditions: Vec<_> =
        model["conditions"].as_array().unwrap().iter().map(|c| (&c["type"], &c["status"], &c["reason"])).collect();
    let (yes, no) = (json!("True"), json!("False"));
    let (loadable, missing) = (json!("Loadable"), json!("DeviceUnavailable"));
    assert_eq!(
        conditions,
        [
            (&json!("Ready"), &yes, &loadable),
            (&json!("CpuReady"), &yes, &loadable),
            (&json!("GpuReady"), &no, &missing)
        ]
    );
    let [cpu, gpu] = model["variants"].as_array().unwrap().as_slice() else { panic!("two variants: {model}") };
    assert_eq!((&cpu["device"], &cpu["desired"]), (&json!("cpu"), &json!(1)));
    assert_eq!((&gpu["device"], &gpu["desired"], &gpu["replicas"]), (&json!("gpu"), &json!(0), &json!([])));
    let replica = &cpu["replicas"][0];
    assert_eq!((&replica["state"], &replica["inFlight"]), (&json!("serving"), &json!(0)));
    assert!(replica["id"].is_string() && replica["pid"].is_u64() && replica["address"].is_string(), "{replica}");
    let pool = &status["pools"][0];
    assert_eq!((&pool["name"], &pool["size"], &pool["claimed"]), (&json!("default"), &json!(1), &json!(1)));
    assert_eq!((&pool["hits"], &pool["misses"]), (&json!(1), &json!(0)));
    assert!(pool["idle"].is_u64() && pool["replicas"].is_array(), "{pool}");

    let yaml: Value = serde_saphyr::from_str(&command(&["status", "-o", "yaml"])).unwrap();
    assert_eq!(yaml["models"][0]["name"], "digits");
    let table = command(&["status"]);
    assert!(table.starts_with("NAMESPACE  MODEL   READY  DEVICE  REPLICAS"), "{table}");
    assert!(
        table.contains("default/digits on gpu: DeviceUnavailable: replicas of this machine run on: cpu"),
        "{table}"
    );
    assert!(command(&["status", "--output", "wide"]).contains("digits-cpu-00001"));

    let top = command(&["top", "--once", "--interval", "100ms"]);
    assert!(top.contains("REQ/S") && top.contains("cpu 1/1, gpu 0/0"), "{top}");
    let top: Value = serde_json::from_str(&command(&["top", "--once", "--interval", "100ms", "-o", "json"])).unwrap();
    assert_eq!(top[0]["variants"][0], json!({"device": "cpu", "serving": 1, "desired": 1}));

    let text = command(&["explain", "digits"]);
    for expected in ["Why these replicas", "The next request (1024 bytes", "would go to cpu: only-candidate"] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let explanation = explained(&["default/digits", "--bytes", "5000"]);
    assert_eq!(explanation["nextRequest"]["requestBytes"], 5000);
    assert_eq!(explanation["nextRequest"]["devices"][0]["active"], true);
    assert_eq!(
        (&explanation["nextRequest"]["outcome"], &explanation["nextRequest"]["chosen"]),
        (&json!("sent"), &json!("cpu"))
    );
    let planned = &explanation["plan"]["variants"][0];
    assert_eq!((&planned["device"], &planned["revision"]), (&json!("cpu"), &json!("digits-cpu-00001")));
    // what the gateway has measured is in its next report
    until("the request is measured", || {
        let plan = &explained(&["digits"])["plan"];
        let measured = json!(["measured", "within-objective"]);
        assert!(plan["reportAgeSeconds"].as_f64().unwrap() < 60.0, "{plan}");
        json!([plan["variants"][0]["evidence"], plan["fit"]]) == measured
    });

    let unknown = run(&["explain", "letters", "--server", &server]);
    assert_eq!(unknown.status.code(), Some(1));
    assert_eq!(stderr(&unknown), "poolctl: there is no model letters: there are default/digits\n");
    let not_admin = run(&["status", "--server", &format!("http://{}", stack.address)]);
    assert_eq!(not_admin.status.code(), Some(1));
    assert!(
        stderr(&not_admin).contains("it is an address for predictions; the admin address is port 8081"),
        "{}",
        stderr(&not_admin)
    );
}

#[test]
fn a_model_in_trouble_is_said_to_refuse() {
    let models = Models::with_digits("");
    let stack = Stack::start(&models, &["--pool", "1"]);
    fs::remove_file(models.path().join("digits.onnx")).unwrap();
    let (images, _) = held_out(1);
    let ask = || stack.post("/v1/models/digits:predict", &[], &json!({"instances": images}));
    let explain =
        || crate::stack::request(stack.admin, "GET", "/explain/default/digits", &[], "").body["nextRequest"].clone();
    // between two attempts the gateway refuses at once, and an explanation says so
    until("it would be refused", || {
        assert_eq!(ask().status, 503);
        explain()["outcome"] == "refused"
    });
    until("it would be refused, and why", || {
        ask();
        let next = explain();
        let refusal = next["refusal"].as_str().is_some_and(|why| why.contains("digits.onnx"));
        next["reason"] == "load-failed" && next.get("coldStart").is_none() && refusal
    });
}

#[test]
fn metrics_and_health_are_on_the_admin_address() {
    let models = Models::with_digits("");
    let stack = Stack::start(&models, &["--pool", "1"]);
    let get = |path: &str| crate::stack::request(stack.admin, "GET", path, &[], "");
    assert_eq!((get("/healthz").status, get("/healthz").body), (200, json!("ok")));
    let metrics = get("/metrics").body;
    let metrics = metrics.as_str().unwrap();
    for line in [
        "kferving_pool_replicas{namespace=\"default\",pool=\"default\",state=\"idle\"} 1",
        "kferving_pool_size{namespace=\"default\",pool=\"default\"} 1",
        "kferving_local_replicas 1",
    ] {
        assert!(metrics.lines().any(|metric| metric == line), "{line}\n{metrics}");
    }
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let samples =
        metrics.lines().filter(|line| line.starts_with("kferving_pool_") || line.starts_with("kferving_local_"));
    for sample in samples {
        let name = sample.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
        let labels = sample.split_once('{').map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
        let labels: Vec<_> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
        let mut labels: Vec<_> = labels.into_iter().filter(|label| *label != "le").collect();
        let row = readme.lines().find_map(|line| line.strip_prefix(&format!("| `{family}` | ")));
        let row = row.unwrap_or_else(|| panic!("the README has no row for {family}"));
        let mut documented: Vec<_> =
            row.split('|').next().unwrap().trim().split(", ").filter(|l| !l.is_empty()).collect();
        labels.sort_unstable();
        documented.sort_unstable();
        assert_eq!(documented, labels, "{family}");
    }
    assert_eq!(get("/explain/default/letters").status, 404);
    for (path, status, error) in [
        ("/nothing", 404, "there is no /nothing: expected one of /status, "),
        ("/explain/default/digits?bytes=abc", 400, "expected ?bytes=N"),
    ] {
        let answer = get(path);
        assert_eq!(answer.status, status);
        assert!(answer.body["error"].as_str().unwrap().starts_with(error), "{path}: {:?}", answer.body);
    }
    let posted = crate::stack::request(stack.admin, "POST", "/status", &[], "");
    assert_eq!((posted.status, &posted.body["error"]), (405, &json!("expected GET: nothing is changed here")));
}

#[test]
fn nothing_that_answers_is_an_error() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for command in [&["status"][..], &["top", "--once"], &["explain", "digits"]] {
        let output = run(&[command, &["--server", &format!("http://{free}")]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            stderr(&output),
            format!(
                "poolctl: nothing answers at http://{free}: Connection refused (os error 111). Is `poolctl up` running? \
                 Name its admin address with --server http://HOST:PORT\n"
            )
        );
    }
}

#[test]
fn an_admin_address_is_a_host_and_a_port() {
    let odd = [
        "ftp://x",
        "https://127.0.0.1:1",
        "127.0.0.1",
        "http://",
        "",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:1/x",
    ];
    for server in odd.into_iter().chain(["http://127.0.0.1:1?x=1", "http://me:password@127.0.0.1:1"]) {
        let output = run(&["status", "--server", server]);
        let expected = format!("poolctl: --server {server:?}: expected http://HOST:PORT\n");
        assert_eq!((output.status.code(), stderr(&output)), (Some(1), expected));
    }
    for server in ["127.0.0.1:1", "http://127.0.0.1:1/", "http://[::1]:1"] {
        let said = stderr(&run(&["status", "--server", server]));
        assert!(said.starts_with("poolctl: nothing answers at http://"), "{server}: {said}");
    }
}

#[test]
fn what_answers_oddly_is_said_to_be_no_running_stack() {
    for (answer, said) in [
        ("", "it gave no answer: connection closed before message completed"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "it gave no answer: invalid HTTP version parsed"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", "its answer broke off: "),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "its answer cannot be read: missing field `models`"),
        ("HTTP/1.1 301 Moved\r\ncontent-length: 0\r\n\r\n", "it answered 301 Moved Permanently"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // a request fits into one segment
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let output = run(&["status", "--server", &server]);
        answering.join().unwrap();
        let expected = format!("poolctl: {server} is not the admin address of a running stack: {said}");
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = crate::tree::poolctl().arg("crds").stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "poolctl: No space left on device (os error 28)\n");
}

#[test]
fn crds_are_printed() {
    let output = run(&["crds"]);
    assert!(output.status.success());
    let text = stdout(&output);
    assert!(text.contains("name: models.kferving.dev") && text.contains("name: warmpools.kferving.dev"), "{text}");
}
