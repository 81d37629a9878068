#!/usr/bin/env bash
# Kills training by kill -9 at random moments, N times in all, and resumes it each time. Every run that comes to its end must then be,
# bit for bit, the run that nobody killed: all checkpoints, and all metrics but the clock's.
#
#   scripts/kill_campaign.sh [N] [SEED]      100 kills unless told; the seed repeats the moments, as far as the clock lets it
#
# The kills go in turn to S3 on CIFAR's records, in parts and with kept checkpoints; to S3 on a folder of pictures, which another number
# of threads decodes after each kill; and to fp32 with patience, on the same pictures without a test split. S3GPU names another binary,
# KILL_FLAGS another run instead of these: it must be deterministic and short. KILL_IMAGES names another folder of pictures.
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
[ -n "${S3GPU:-}" ] || cargo build --release --quiet

# Three steps an epoch, the last with fewer images: what counts here is how often something is written.
mkdir "$folder/data"
source=tests/fixtures/golden/cifar10-512/cifar-10-batches-bin
head -c $((150 * 3073)) "$source/data_batch_1.bin" >"$folder/data/data_batch_1.bin"
head -c $((32 * 3073)) "$source/test_batch.bin" >"$folder/data/test_batch.bin"

# JPEG, PNG and WebP in two classes, each file several times: its crops, flips and colours still differ.
images=${KILL_IMAGES:-$folder/images}
[ -n "${KILL_IMAGES:-}" ] || for class in 0 1; do
    mkdir -p "$images/$class"
    n=0
    for file in tests/fixtures/images/*.{jpg,png,webp}; do
        n=$((n + 1))
        [ $((n % 2)) -eq "$class" ] || continue
        for copy in 1 2 3 4 5 6 7 8; do cp "$file" "$images/$class/$copy-${file##*/}"; done
    done
done

common="--model resnet8 --log-every 2 --seed 3"
pictures="--dataset folder --data-dir $images --image-size 32 --val-split 0.25"
if [ -n "${KILL_FLAGS:-}" ]; then
    names=(own)
    declare -A flags=([own]=$KILL_FLAGS)
else
    names=(records pictures patience)
    declare -A flags=(
        [records]="--dataset cifar10 --data-dir $folder/data $common --epochs 10 --batch-size 64 --accumulate 2 --keep 2"
        [pictures]="$pictures $common --epochs 8 --batch-size 24 --threads 3 --cache 1MB --keep 1 --method s3 --bits 3"
        [patience]="$pictures $common --epochs 30 --batch-size 24 --accumulate 3 --method fp32 --lr 0.3 --patience 3 --threads 2"
    )
fi

now() { date +%s%N; }

# A run's files: names, sums of the checkpoints, metrics without what a clock decides.
content() {
    (cd "$1" && ls && cat ./*.safetensors | sha256sum && sed -E 's/,"(images_per_s|data_wait)":[^,}]*//g' metrics.jsonl)
}

declare -A longest
for name in "${names[@]}"; do
    echo "$name: the run that nobody kills (seed $seed)"
    started=$(now)
    # shellcheck disable=SC2086 # flags are several words
    "$program" train ${flags[$name]} --out "$folder/$name" >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
    whole=$(($(now) - started))
    content "$folder/$name" >"$folder/$name.expected"
    # Up to half of a whole run: some die in their start, some after several epochs.
    longest[$name]=$((whole / 2000000))
    echo "$name: $((whole / 1000000)) ms; it is killed after up to ${longest[$name]} ms"
done

killed=0 ended=0 anew=0 run=0
declare -A deaths
name=${names[0]} out=$folder/run0
while [ "$killed" -lt "$kills" ] || [ -d "$out" ]; do
    if [ -f "$out/last.safetensors" ]; then
        # The number of threads is none of a run's results.
        threads=
        [ "$name" = records ] || [ "$name" = own ] || threads="--threads $((1 + RANDOM % 4))"
        # shellcheck disable=SC2086
        "$program" train --resume "$out" $threads >"$folder/log" 2>&1 &
    else
        # Before its first checkpoint there is nothing to go on from.
        [ ! -d "$out" ] || anew=$((anew + 1))
        # shellcheck disable=SC2086
        "$program" train ${flags[$name]} --out "$out" --force >"$folder/log" 2>&1 &
    fi
    child=$!
    if [ "$killed" -lt "$kills" ]; then
        delay=$(((RANDOM * 32768 + RANDOM) % longest[$name]))
        sleep "$((delay / 1000)).$(printf %03d $((delay % 1000)))"
    fi
    if [ "$killed" -lt "$kills" ] && kill -9 "$child" 2>/dev/null; then
        # The shell's line about a killed child is not ours to show; a child that had just ended was not killed.
        status=0; wait "$child" 2>/dev/null || status=$?
        child=
        if [ "$status" -eq 137 ]; then
            killed=$((killed + 1)) deaths[$name]=$((${deaths[$name]:-0} + 1))
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
    if ! diff "$folder/$name.expected" "$folder/found"; then
        echo "FAILED after $killed kills: run $run ($name) is not the run that nobody killed"
        exit 1
    fi
    ended=$((ended + 1)) run=$((run + 1))
    rm -rf "$out"
    name=${names[$((run % ${#names[@]}))]} out=$folder/run$run
done
[ "$ended" -gt 0 ] || { echo "FAILED: no run came to its end"; exit 1; }
for name in "${names[@]}"; do echo "$name: ${deaths[$name]:-0} kills"; done
echo "$killed kills, $anew of them before a first checkpoint: $ended runs ended, each bit for bit the run that nobody killed"
