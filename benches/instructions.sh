#!/usr/bin/env bash
# The gate of the hot path: how many instructions a hot acquire and release take, and whether any of them is a system
# call. Fails if
#
# - a count exceeds its bound in instructions.txt by more than 3 %,
# - there are system calls.
#
# It says, too, what is still to be reached: 320 instructions (sync) and 375 (async), and 1.25 times the floor's.
#
# Instructions are counted by callgrind within `counted` of connring-peers' program `cycles`, the same to a part in ten
# thousand each time: but not with each compiler. System calls are counted by strace at two lengths of that program.
# Once in 128 acquires a task has used up its budget, and tokio lets it give up its turn and looks at its sockets by
# epoll_wait: these calls an async contestant may have.
#
# Needs valgrind and strace.

set -euo pipefail
cd "$(dirname "$0")/.."

cycles=100000
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cargo build --locked --release -p connring-peers --bin cycles
program=${CARGO_TARGET_DIR:-target}/release/cycles

# instructions CONTESTANT: those of all cycles.
instructions() {
    timeout 300 valgrind --tool=callgrind --collect-atstart=no --toggle-collect='cycles::counted*' \
        --callgrind-out-file="$scratch/callgrind" "$program" "$1" "$cycles" 2>"$scratch/log" || {
        cat "$scratch/log" >&2
        return 1
    }
    awk '/^totals:/ { print $2 }' "$scratch/callgrind"
}

# system_calls CONTESTANT CYCLES: those of the whole process.
system_calls() {
    timeout 300 strace -f -o "$scratch/strace" "$program" "$1" "$2"
    grep -vc -e '+++ exited' -e ' resumed>' "$scratch/strace"
}

for contestant in floor-sync floor-async connring-sync connring-async; do
    short=$(system_calls "$contestant" 1000)
    long=$(system_calls "$contestant" $((1000 + cycles)))
    total=$(instructions "$contestant")
    echo "$contestant $total $((long - short))"
done >"$scratch/counts"

awk -v cycles="$cycles" '
    function fail(what) { failures = failures "error: " contestant ": " what "\n" }
    /^#/ { next }
    FILENAME ~ /instructions.txt$/ { bound[$1] = $2; next }
    FNR == 1 { print "instructions and system calls of a hot acquire and release\n"
               print "contestant      instructions  bound  of the floor  system calls in " cycles }
    {
        contestant = $1; count = $2 / cycles; calls = $3; seen++
        split(contestant, part, "-"); kind = part[2]
        if (part[1] == "floor") floor[kind] = count
        ratio = count / floor[kind]
        printf "%-15s %12.1f  %5d  %12.2f  %d\n", contestant, count, bound[contestant], ratio, calls
        # A bound that is missing, or a function that callgrind did not find, is 0.
        if (bound[contestant] <= 0) fail("has no bound")
        if (count < 50) fail("fewer instructions than any acquire can take: they were not counted")
        if (count > 1.03 * bound[contestant]) fail("more than 3 % above its bound")
        if (count < 0.97 * bound[contestant]) print "note: " contestant " is more than 3 % below its bound: lower that"
        goal = kind == "sync" ? 320 : 375
        if (part[1] == "connring" && count > goal) print "note: " contestant " is to come below " goal
        if (part[1] == "connring" && ratio > 1.25) print "note: " contestant " is to come below 1.25 times the floor"
        if (calls > (kind == "sync" ? 0 : cycles / 128 + 1)) fail("makes system calls")
    }
    END {
        if (seen != 4) failures = failures "error: " seen " contestants were counted, not 4\n"
        printf "\n%s", failures
        exit failures != ""
    }
' benches/instructions.txt "$scratch/counts"
