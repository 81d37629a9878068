#!/usr/bin/env bash
# Kills training by kill -9 at random moments, N times in all, and resumes it each time. Every run that comes to its end must then be,
# bit for bit, the run that nobody killed: all checkpoints, and all metrics but the clock's.
#
#   scripts/kill_campaign.sh [N] [SEED]      100 kills unless told; the seed repeats the moments, as far as the clock lets it
#
# S3GPU names another binary, KILL_FLAGS another run: it must be deterministic and short.
set -euo pipefail
cd "$(dirname "$0")/.."

kills=${1:-100}
seed=${2:-$$}
RANDOM=$seed
program=${S3GPU:-target/release/s3gpu}
folder=$(mktemp -d)
child=
# Only what this script has started.
trap '[ -z "$child" ] || kill -9 "$child" 2>/dev/null || true; rm -rf "$folder"' EXIT
flags=${KILL_FLAGS:---dataset cifar10 --data-dir $folder/data --model resnet8 --epochs 10 --batch-size 64 --accumulate 2
    --log-every 2 --keep 2 --seed 3}
[ -n "${S3GPU:-}" ] || cargo build --release --quiet

# Three steps an epoch, the last with fewer images: what counts here is how often something is written.
mkdir "$folder/data"
source=tests/fixtures/golden/cifar10-512/cifar-10-batches-bin
head -c $((150 * 3073)) "$source/data_batch_1.bin" >"$folder/data/data_batch_1.bin"
head -c $((32 * 3073)) "$source/test_batch.bin" >"$folder/data/test_batch.bin"

now() { date +%s%N; }

# A run's files: names, sums of the checkpoints, metrics without what a clock decides.
content() {
    (cd "$1" && ls && cat ./*.safetensors | sha256sum && sed -E 's/,"(images_per_s|data_wait)":[^,}]*//g' metrics.jsonl)
}

echo "the run that nobody kills (seed $seed)"
started=$(now)
# shellcheck disable=SC2086 # flags are several words
"$program" train $flags --out "$folder/whole" >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
whole=$(($(now) - started))
content "$folder/whole" >"$folder/expected"

# Up to half of a whole run: some die in their start, some after several epochs.
longest=$((whole / 2000000))
echo "it took $((whole / 1000000)) ms; $kills kills, each after up to $longest ms"
killed=0 ended=0 anew=0 run=0
out=$folder/run0
while [ "$killed" -lt "$kills" ] || [ -d "$out" ]; do
    if [ -f "$out/last.safetensors" ]; then
        "$program" train --resume "$out" >"$folder/log" 2>&1 &
    else
        # Before its first checkpoint there is nothing to go on from.
        [ ! -d "$out" ] || anew=$((anew + 1))
        # shellcheck disable=SC2086
        "$program" train $flags --out "$out" --force >"$folder/log" 2>&1 &
    fi
    child=$!
    if [ "$killed" -lt "$kills" ]; then
        delay=$(((RANDOM * 32768 + RANDOM) % longest))
        sleep "$((delay / 1000)).$(printf %03d $((delay % 1000)))"
    fi
    if [ "$killed" -lt "$kills" ] && kill -9 "$child" 2>/dev/null; then
        # The shell's line about a killed child is not ours to show; a child that had just ended was not killed.
        status=0; wait "$child" 2>/dev/null || status=$?
        child=
        if [ "$status" -eq 137 ]; then
            killed=$((killed + 1))
            [ $((killed % 10)) -ne 0 ] || echo "$killed kills, $ended runs ended, $anew starts anew"
            continue
        fi
    else
        status=0; wait "$child" || status=$?
        child=
    fi
    if [ "$status" -ne 0 ]; then
        echo "FAILED after $killed kills: exit code $status"; cat "$folder/log"; ls -la "$out"
        exit 1
    fi
    content "$out" >"$folder/found"
    if ! diff "$folder/expected" "$folder/found"; then
        echo "FAILED after $killed kills: run $run is not the run that nobody killed"
        exit 1
    fi
    ended=$((ended + 1)) run=$((run + 1))
    rm -rf "$out"
    out=$folder/run$run
done
[ "$ended" -gt 0 ] || { echo "FAILED: no run came to its end"; exit 1; }
echo "$killed kills, $anew of them before a first checkpoint: $ended runs ended, each bit for bit the run that nobody killed"
