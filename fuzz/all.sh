#!/usr/bin/env bash
# Runs fuzz targets for some seconds each: fuzz/all.sh [SECONDS [TARGET …]]; all of them unless some are named.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-60}
shift || true
[ $# -gt 0 ] || set -- $(cd src/bin && basename -s .rs -- *.rs)
toolchain=+nightly
cargo +nightly --version >/dev/null 2>&1 || { toolchain=; export RUSTC_BOOTSTRAP=1; }

for target in "$@"; do
    mkdir -p "corpus/$target" "seeds/$target"
    echo "$target: $seconds s"
    # Five seconds an input and 2 GiB are far beyond what any small file may cost.
    # shellcheck disable=SC2086 # empty where there is no nightly toolchain
    (cd .. && cargo $toolchain fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -timeout=5 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 -verbosity=0)
done
