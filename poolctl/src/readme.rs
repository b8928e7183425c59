//! Checks that the README says what the command line takes.

use autoscaler_policy::Verdict;
use autoscaler_policy::service::Evidence;
use clap::{Arg, CommandFactory};

use crate::admin::messages::Outcome;
use crate::cli::Cli;

const README: &str = include_str!("../README.md");

/// What stands below the title `## name`.
fn section(name: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("no section {name}"));
    rest.split("\n## ").next().unwrap()
}

fn is_asked(argument: &&Arg) -> bool {
    !matches!(argument.get_id().as_str(), "help" | "version")
}

/// `--models DIR`, `--once` or `MODEL`.
fn written(argument: &Arg) -> String {
    let takes_value = argument.get_action().takes_values();
    let value = argument.get_value_names().map(|names| names[0].to_string()).filter(|_| takes_value);
    let long = argument.get_long().map(|long| format!("--{long}"));
    [long, value].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_option_stands_with_its_default() {
    let command = Cli::command();
    for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
        let section = section(command.get_name());
        let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
        let arguments: Vec<_> = command.get_arguments().filter(is_asked).collect();
        for argument in &arguments {
            let name = written(argument);
            let row = rows.iter().find_map(|row| row.strip_prefix(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| panic!("{}: no row for {name}", command.get_name()));
            let (default, text) = row.split_once(" | ").unwrap();
            // a default that clap knows stands as it is; of the others the help says in words what holds
            if let ([known], true) = (argument.get_default_values(), argument.get_action().takes_values()) {
                assert_eq!(default.trim().trim_matches('`'), known.to_str().unwrap(), "{name}");
            }
            if let Some(variable) = argument.get_env() {
                assert!(text.contains(&format!("`{}`", variable.to_str().unwrap())), "{name}: {text}");
            }
        }
        assert_eq!(rows.len(), arguments.len(), "{}: an option that is gone", command.get_name());
    }
}

#[test]
fn words_of_the_json_are_listed() {
    use {Evidence as E, Outcome as O, Verdict as V};
    let fits = [V::NoObjective, V::Unmeasured, V::WithinObjective, V::ObjectiveMissed, V::Overloaded];
    let fits = fits.map(|fit| serde_json::to_value(fit).unwrap());
    let evidence = [E::Measured, E::OtherSizes, E::OtherDevice, E::Prior].map(|it| serde_json::to_value(it).unwrap());
    let outcomes = [O::Sent, O::ColdStart, O::Held, O::Refused].map(|it| serde_json::to_value(it).unwrap());
    for word in fits.iter().chain(&evidence).chain(&outcomes) {
        assert!(section("explain").contains(&format!("`{}`", word.as_str().unwrap())), "{word}");
    }
}
