use super::*;

fn at(millis: u64) -> Moment {
    Moment::from_micros(millis * 1000)
}

fn added(uid: &str) -> ReplicaAdded {
    ReplicaAdded { uid: uid.to_owned(), ..ReplicaAdded::default() }
}

fn gateways() -> Gateways {
    let mut gateways = Gateways::new("leader-1".to_owned());
    gateways.cluster_synced(at(0));
    gateways
}

/// What a gateway reads, one word a message.
fn read(outbox: &mut Outbox) -> Vec<String> {
    let mut words = Vec::new();
    while let Ok(message) = outbox.messages.try_recv() {
        words.push(match message.kind.unwrap() {
            Kind::Welcome(welcome) if welcome.synced => "synced".to_owned(),
            Kind::Welcome(_) => "welcome".to_owned(),
            Kind::Redirect(_) => "redirect".to_owned(),
            Kind::Added(added) => format!("added {}", added.uid),
            Kind::Removing(removing) => format!("removing {}", removing.uid),
            Kind::Gone(gone) => format!("gone {}", gone.uid),
            Kind::Model(state) => format!("model {:?}", state.reason),
        });
    }
    words
}

#[test]
fn a_new_gateway_is_told_everything_then_synced() {
    let mut gateways = gateways();
    gateways.publish(&"a".into(), added("a"), at(0));
    let trouble = ModelState { reason: "load-failed".to_owned(), ..ModelState::default() };
    gateways.model(&ModelKey::new("ns", "broken"), trouble.clone(), at(0));
    let mut outbox = gateways.open(&"g".into(), BTreeSet::new(), at(1));
    assert_eq!(read(&mut outbox), ["welcome", "added a", "model \"load-failed\"", "synced"]);

    gateways.model(&ModelKey::new("ns", "broken"), trouble, at(2));
    assert_eq!(read(&mut outbox), ["model \"load-failed\""], "whoever waited for another attempt must hear of it");
    gateways.model(&ModelKey::new("ns", "broken"), ModelState::default(), at(3));
    assert_eq!(read(&mut outbox), ["model \"\""]);
    gateways.model(&ModelKey::new("ns", "broken"), ModelState::default(), at(3));
    assert_eq!(read(&mut outbox), [""; 0]);
}

#[test]
fn a_new_gateway_is_not_told_of_a_pause_that_is_over() {
    let mut gateways = gateways();
    let trouble = ModelState { reason: "load-failed".to_owned(), retry_after_ms: 4000, ..ModelState::default() };
    gateways.model(&ModelKey::new("ns", "broken"), trouble, at(0));
    let mut early = gateways.open(&"g".into(), BTreeSet::new(), at(1000));
    let pauses = std::iter::from_fn(|| early.messages.try_recv().ok()).filter_map(|message| match message.kind {
        Some(Kind::Model(state)) => Some(state.retry_after_ms),
        _ => None,
    });
    assert_eq!(pauses.collect::<Vec<_>>(), [3000]);
    let mut late = gateways.open(&"h".into(), BTreeSet::new(), at(4000));
    assert_eq!(read(&mut late), ["welcome", "synced"]);
}

#[test]
fn synced_waits_for_the_cluster_and_for_adoption() {
    let mut gateways = Gateways::new("leader-1".to_owned());
    let mut adopting = gateways.open(&"g".into(), BTreeSet::from(["mine".into()]), at(0));
    gateways.cluster_synced(at(1));
    assert_eq!(read(&mut adopting), ["welcome"]);
    gateways.publish(&"mine".into(), added("mine"), at(2));
    assert_eq!(read(&mut adopting), ["added mine", "synced"]);

    let mut refused = gateways.open(&"h".into(), BTreeSet::from(["foreign".into()]), at(3));
    gateways.gone(&"foreign".into(), &"ns/r".into(), at(4));
    assert_eq!(read(&mut refused), ["welcome", "added mine", "gone foreign", "synced"]);

    let mut unanswered = gateways.open(&"i".into(), BTreeSet::from(["lost".into()]), at(5));
    gateways.welcome(at(1000));
    assert!(!read(&mut unanswered).contains(&"synced".to_owned()));
    gateways.welcome(at(3000));
    assert_eq!(read(&mut unanswered), ["synced"]);
}

#[test]
fn a_removal_waits_for_everybody_who_was_asked() {
    let mut gateways = gateways();
    assert!(gateways.remove(&"a".into(), "claim".into(), &"ns/r".into()), "nobody to wait for");
    let (first, second) =
        (gateways.open(&"g".into(), BTreeSet::new(), at(0)), gateways.open(&"h".into(), BTreeSet::new(), at(0)));
    gateways.publish(&"a".into(), added("a"), at(1));
    assert!(!gateways.remove(&"a".into(), "claim".into(), &"ns/r".into()));
    let mut third = gateways.open(&"i".into(), BTreeSet::new(), at(2));
    assert_eq!(read(&mut third), ["welcome", "synced"], "it is not told of what is being removed");
    assert_eq!(gateways.ack(first.session, &"a".into()), None);
    assert_eq!(gateways.ack(first.session, &"a".into()), None, "one gateway cannot answer for two");
    let (gateway, acked) = gateways.close(second.session);
    assert_eq!(gateway, Some("h".into()));
    assert_eq!(acked, [("a".into(), "claim".into())], "who left is not waited for");
    assert_eq!(gateways.ack(first.session, &"a".into()), None, "it was answered once");
}

#[test]
fn a_reconnected_gateway_is_not_silent() {
    let mut gateways = gateways();
    let old = gateways.open(&"g".into(), BTreeSet::new(), at(0));
    let new = gateways.open(&"g".into(), BTreeSet::new(), at(1));
    assert!(old.ended.is_cancelled());
    assert!(matches!(gateways.heard(old.session, 1, at(2)), Freshness::Stale));
    assert!(matches!(gateways.heard(new.session, 1, at(2)), Freshness::Fresh(_)));
    assert!(matches!(gateways.heard(new.session, 1, at(2)), Freshness::Stale), "the same message twice");
    assert_eq!(gateways.close(old.session).0, None, "it has another stream");
    assert_eq!(gateways.close(new.session).0, Some("g".into()));
}

#[test]
fn staleness_is_that_of_the_most_silent() {
    let mut gateways = gateways();
    assert_eq!(gateways.staleness(at(9_000)), Duration::ZERO);
    let outbox = gateways.open(&"g".into(), BTreeSet::new(), at(0));
    gateways.open(&"h".into(), BTreeSet::new(), at(1_000));
    gateways.heard(outbox.session, 1, at(3_000));
    assert_eq!(gateways.staleness(at(4_000)), Duration::from_secs(3));
}

#[test]
fn a_gateway_that_does_not_read_is_cut_off() {
    let mut gateways = gateways();
    let outbox = gateways.open(&"g".into(), BTreeSet::new(), at(0));
    for round in 0..=OUTBOX {
        gateways.publish(&"a".into(), added("a"), at(round as u64));
    }
    assert!(outbox.ended.is_cancelled());
}

#[test]
fn whoever_no_longer_leads_sends_everybody_away() {
    let mut gateways = gateways();
    let mut outbox = gateways.open(&"g".into(), BTreeSet::new(), at(0));
    gateways.redirect();
    assert_eq!(read(&mut outbox), ["welcome", "synced", "redirect"]);
    assert!(outbox.ended.is_cancelled());
}
