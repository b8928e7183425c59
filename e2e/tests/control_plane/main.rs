//! The control-plane tier: tests on a real apiserver with simulated nodes, without root.
//!
//! One control plane is started for all of them, by the first that needs it, and ended before this program is. The usual harness
//! has no place for that end, so this one has its own `main`; it takes the same arguments (`cargo test -p e2e --test
//! control_plane -- NAME`).

mod claims;
mod crash;
mod identities;
mod pods;
mod scale;
mod schema;
mod serving;
mod tier;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use tier::Tier;

/// Tests that run at the same time, where nobody says how many (`--test-threads`).
const AT_ONCE: usize = 8;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They wait for the control plane most of the time.
    arguments.test_threads.get_or_insert(AT_ONCE);
    let tier = Tier::new();
    let tests: Vec<Trial> = vec![
        tier.test("identities::are_who_their_certificates_say", identities::are_who_their_certificates_say),
        tier.test(
            "identities::only_the_front_proxy_speaks_for_others",
            identities::only_the_front_proxy_speaks_for_others,
        ),
        tier.test("schema::crds_are_established_as_written", schema::crds_are_established_as_written),
        tier.test("schema::the_examples_are_taken_whole", schema::the_examples_are_taken_whole),
        tier.test("schema::unknown_fields_are_refused_when_strict", schema::unknown_fields_are_refused_when_strict),
        tier.test("schema::what_is_wrong_is_named", schema::what_is_wrong_is_named),
        tier.test("schema::status_is_written_apart", schema::status_is_written_apart),
        tier.test("claims::one_claimant_wins_each_pod", claims::one_claimant_wins_each_pod),
        tier.test("claims::without_tests_everybody_wins", claims::without_tests_everybody_wins),
        tier.test("claims::a_pod_that_is_gone_or_another_is_lost", claims::a_pod_that_is_gone_or_another_is_lost),
        tier.test("claims::a_late_write_revives_nothing", claims::a_late_write_revives_nothing),
        tier.test(
            "serving::a_claimed_pod_answers_through_its_resolver",
            serving::a_claimed_pod_answers_through_its_resolver,
        ),
        tier.test("serving::the_loser_of_a_claim_is_refused_twice", serving::the_loser_of_a_claim_is_refused_twice),
        tier.test("crash::claims_survive_the_death_of_any_part", crash::claims_survive_the_death_of_any_part),
        tier.test("scale::hundreds_of_pods_come_are_claimed_and_go", scale::hundreds_of_pods_come_are_claimed_and_go),
    ];
    let conclusion = libtest_mimic::run(&arguments, tests);
    match tier.end() {
        Ok(()) => conclusion.exit_code(),
        Err(left) => {
            eprintln!("{left}");
            ExitCode::FAILURE
        }
    }
}
