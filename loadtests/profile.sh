#!/usr/bin/env bash
# Writes loadtests/release.profdata, which tells the compiler what the gateway and the model server run most: builds them with
# counters in them, has `target/release/loadtest` use them, and merges what was counted.
#
#   profile.sh PACKAGE…   the packages that `make release` builds: with others, dependencies would have other symbols
set -euo pipefail
cd "$(dirname "$0")/.."

profdata=$(rustc --print target-libdir)/../bin/llvm-profdata
[ -x "$profdata" ] || { echo "there is no $profdata: rustup component add llvm-tools" >&2; exit 1; }
programs=$PWD/target/profile/release
counted=$PWD/target/profile/counted
rm -rf "$counted"

# What the build scripts of dependencies count lies apart and is not used.
cargo build --release --locked --target-dir target/profile "${@/#/--package=}" --bin gateway --bin model-wrapper \
    --config "build.rustflags=['-Cprofile-generate=$PWD/target/profile/build-scripts']"
count() {
    LLVM_PROFILE_FILE="$counted/%m.profraw" target/release/loadtest "$@" >/dev/null
}
count gateway --gateway "$programs/gateway" --peers none --rounds 24
count wrapper --wrapper "$programs/model-wrapper" --cores one --models tiny --rounds 12
# Few rounds: its long tensors in JSON would make everything else look rare.
count wrapper --wrapper "$programs/model-wrapper" --cores one --models ppocr-rec --rounds 2
# Sparse: what no load test runs is built as without a profile, not as if it were never run.
"$profdata" merge --sparse --output loadtests/release.profdata "$counted"
