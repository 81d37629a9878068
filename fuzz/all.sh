#!/usr/bin/env bash
# Runs fuzz targets for some seconds each: fuzz/all.sh [SECONDS [TARGET …]]; all of them unless some are named, JOBS (2) at a time.
# Ends with a line for each: executions, coverage, CPU time, and whether something was found. Fails if something was.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-60}
shift || true
[ $# -gt 0 ] || set -- $(cd src/bin && basename -s .rs -- *.rs)
toolchain=+nightly
cargo +nightly --version >/dev/null 2>&1 || { toolchain=; export RUSTC_BOOTSTRAP=1; }

for target in "$@"; do
    # shellcheck disable=SC2086 # empty where there is no nightly toolchain
    cargo $toolchain fuzz build --sanitizer none "$target"
done

one() {
    mkdir -p "corpus/$2" "seeds/$2" "artifacts/$2" log
    # A minute an input, much for a small file even on a busy machine, and 2 GiB.
    TIMEFORMAT='cpu: %U user, %S system'
    { time target/*/release/"$2" "corpus/$2" "seeds/$2" -artifact_prefix="artifacts/$2/" -max_total_time="$1" \
        -timeout=60 -report_slow_units=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1; } >"log/$2" 2>&1 || true
    awk -v target="$2" '
        /^Done / || / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1) } }
        /number_of_executed_units/ { runs = $2 }
        /peak_rss_mb/ { rss = $2 }
        /^cpu:/ { cpu = $2 + $4 }
        /SUMMARY: libFuzzer/ { found = "FOUND " $3 " " $4 }
        END { printf "%-14s %10d runs, %6d edges, %6d features, %5d s of CPU, %5d MB, %s\n", target, runs, cov, ft, cpu, rss,
              (found ? found : (runs ? "nothing found" : "DID NOT RUN")) }' "log/$2"
}
export -f one
printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -I{} bash -c 'one "$0" {}' "$seconds" |
    awk '{ print; fflush() } /FOUND|DID NOT/ { bad = 1 } END { exit bad }'
