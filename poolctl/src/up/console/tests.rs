use super::*;
use crate::admin::messages::{ModelStatus, ReplicaStatus, VariantStatus};

/// What a wide terminal shows after these bytes: the sequences that the console uses, and no others.
fn terminal(bytes: &str) -> String {
    let mut lines = vec![String::new()];
    let mut row = 0_usize;
    let mut rest = bytes;
    while let Some(c) = rest.chars().next() {
        if let Some(tail) = rest.strip_prefix("\x1b[J") {
            lines.truncate(row + 1);
            lines[row].clear();
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix(NO_WRAP).or(rest.strip_prefix(WRAP)) {
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix("\x1b[") {
            let (count, tail) = tail.split_once('A').expect("only cursor up is used");
            row -= count.parse::<usize>().expect("a number of lines");
            rest = tail;
        } else {
            match c {
                '\n' => {
                    row += 1;
                    if row == lines.len() {
                        lines.push(String::new());
                    }
                }
                '\r' => {}
                c => lines[row].push(c),
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    lines.join("\n")
}

#[test]
fn the_table_stays_below_the_log() {
    let (old, new) = ("\nMODEL\ndigits 0/0\n", "\nMODEL\ndigits 1/1\nletters 0/0\n");
    let mut bytes = replace("", "", old);
    assert_eq!(terminal(&bytes), old);
    bytes += &replace(old, "started\n", old);
    assert_eq!(terminal(&bytes), format!("started\n{old}"));
    bytes += &replace(old, "", new);
    assert_eq!(terminal(&bytes), format!("started\n{new}"));
    bytes += &replace(new, "", "");
    assert_eq!(terminal(&bytes), "started\n");
}

#[test]
fn the_table_is_low_and_has_the_models_that_run() {
    let model = |name: String, replicas: usize| ModelStatus {
        name,
        variants: vec![VariantStatus {
            replicas: vec![ReplicaStatus::default(); replicas],
            ..VariantStatus::default()
        }],
        ..ModelStatus::default()
    };
    let mut models: Vec<_> = (0..50).map(|index| model(format!("zero-{index}"), 0)).collect();
    models.push(model("busy".to_owned(), 1));
    let text = frame(Status { models, pools: vec![] });
    assert!(text.lines().nth(2).is_some_and(|row| row.contains("busy")), "{text}");
    assert!(text.contains("and 39 models more: poolctl status shows them\n"), "{text}");
    assert!(text.lines().count() < 20, "{text}");
}
