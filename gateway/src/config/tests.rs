use super::*;

const WHOLE: &str = "
listen: 127.0.0.1:8080
models:
- name: digits
  namespace: vision
  timeout: 2m
  objective: 50ms
  replicas:
  - {url: 'http://127.0.0.1:9001', device: cpu, cost: 1.5, concurrency: 4}
  - {url: 'http://127.0.0.1:9002/', device: gpu}
limits: {maxBodyBytes: 1024, callerConcurrency: 3, headerTimeout: 1.5s, bodyBytesPerSecond: 512, bodyGrace: 2s, answerStallTimeout: 7s}
";

#[test]
fn a_whole_file() {
    let config = Config::parse(WHOLE).unwrap();
    assert_eq!(config.listen, Some("127.0.0.1:8080".parse().unwrap()));
    let model = &config.models[0];
    assert_eq!((model.namespace.as_str(), model.name.as_str()), ("vision", "digits"));
    assert_eq!(model.timeout, Duration::from_secs(120));
    assert_eq!(model.objective, Some(Duration::from_millis(50)));
    assert_eq!(model.replicas[0].concurrency, 4);
    assert_eq!(model.replicas[1].url, "http://127.0.0.1:9002");
    assert_eq!(model.replicas[1].device, Device::Gpu);
    assert!((model.replicas[1].cost - 12.0).abs() < f64::EPSILON);
    assert_eq!(config.limits.max_body_bytes, 1024);
    assert_eq!(config.limits.caller_concurrency, Some(3));
    assert_eq!(config.limits.header_timeout, Duration::from_millis(1500));
    assert_eq!(config.limits.body_bytes_per_second, 512);
    assert_eq!(config.limits.body_grace, Duration::from_secs(2));
    assert_eq!(config.limits.answer_stall_timeout, Duration::from_secs(7));
    assert_eq!(config.limits.hold_requests, Limits::default().hold_requests);
}

#[test]
fn what_is_left_out_has_defaults() {
    let config = Config::parse("models: [{name: m, replicas: []}]").unwrap();
    assert_eq!(config.models[0].namespace, "default");
    assert_eq!(config.models[0].timeout, Duration::from_secs(60));
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn durations_and_costs_are_those_of_a_model() {
    let model = "{name: m, timeout: 1m30s, objective: 1h2m, replicas: [{url: 'http://127.0.0.1:1', device: gpu}]}";
    let config = Config::parse(&format!("models: [{model}]")).unwrap();
    assert_eq!(config.models[0].timeout, Duration::from_secs(90));
    assert_eq!(config.models[0].objective, Some(Duration::from_secs(3720)));
    assert_eq!(config.models[0].replicas[0].cost, Device::Gpu.default_cost());
}

#[test]
fn what_serves_nothing_is_doubted() {
    let doubts = |text: &str| Config::parse(text).unwrap().doubts().join("; ");
    assert!(doubts("models: []").contains("404"));
    let config = "models: [{name: m, replicas: []}, {name: n, replicas: [{url: 'http://127.0.0.1:1'}]}]";
    let doubts = doubts(config);
    assert!(doubts.contains("default/m") && doubts.contains("503") && !doubts.contains("default/n"), "{doubts}");
    assert_eq!(Config::parse(WHOLE).unwrap().doubts(), Vec::<String>::new());
}

#[test]
fn a_refusal_of_the_parser_is_one_line_that_says_where() {
    for (text, expected) in [
        ("models:\n- name: m\n  replica: []", "line 3 column 3: unknown field `replica`"),
        ("models: [", "line 1 column 9: "),
    ] {
        let error = Config::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_refusal_names_key_and_value() {
    let replica = |fields: &str| format!("models: [{{name: m, replicas: [{{{fields}}}]}}]");
    let cases = [
        (String::new(), "models", ""),
        ("# nothing yet".to_owned(), "models", ""),
        ("listen: here\nmodels: []".to_owned(), "listen", "here"),
        ("models: [{name: m, replica: []}]".to_owned(), "replica", ""),
        ("modles: []".to_owned(), "modles", ""),
        ("models: [{name: a.b, replicas: []}]".to_owned(), "models[0].name", "a.b"),
        ("models: [{name: m, timeout: soon, replicas: []}]".to_owned(), "models[0].timeout", "soon"),
        ("models: [{name: m, timeout: 0s, replicas: []}]".to_owned(), "models[0].timeout", "0s"),
        ("models: [{name: m, objective: -1s, replicas: []}]".to_owned(), "models[0].objective", "-1s"),
        ("models: [{name: m, replicas: []}, {name: m, replicas: []}]".to_owned(), "models[1].name", "m"),
        (replica("url: 'https://127.0.0.1:1'"), "models[0].replicas[0].url", "https://127.0.0.1:1"),
        (replica("url: 'http://127.0.0.1'"), "models[0].replicas[0].url", "http://127.0.0.1"),
        (replica("url: 'http://127.0.0.1:1', device: tpu"), "models[0].replicas[0].device", "tpu"),
        (replica("url: 'http://127.0.0.1:1', cost: -2"), "models[0].replicas[0].cost", "-2"),
        (replica("url: 'http://127.0.0.1:1', concurrency: many"), "concurrency", "many"),
        ("models: []\nlimits: {maxBodyBytes: 0}".to_owned(), "limits.maxBodyBytes", "0"),
        ("models: []\nlimits: {drainTimeout: 5}".to_owned(), "limits.drainTimeout", "5"),
    ];
    for (text, key, value) in cases {
        let error = Config::parse(&text).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains(value), "{text}: {error}");
    }
}
