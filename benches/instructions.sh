#!/usr/bin/env bash
# The gate of the hot path: counts the instructions and the system calls of a hot acquire and release, and the
# instructions of one in which the caller waits (`connring-wait`). Fails if
#
# - a count of instructions exceeds its bound in instructions.txt by more than 3 %,
# - the hot path makes a system call.
#
# Also prints which goals are not reached yet: 320 instructions (sync), 375 (async), 1.25 times the floor's count, and
# 1.10 times the count of round robin for `weighted-sync`, which differs from `connring-sync` in the policy alone.
#
# callgrind counts the instructions inside the function `counted` of the program `cycles` (crate connring-peers). The
# counts repeat to one part in ten thousand, but differ between compilers. strace counts the system calls of two runs of
# different lengths; the script subtracts them. Once in 128 acquires an async task has used up its cooperative budget:
# it yields, and tokio polls its sockets with epoll_wait. These system calls are allowed.
#
# Needs valgrind and strace.

set -euo pipefail
cd "$(dirname "$0")/.."

cycles=100000
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cargo build --locked --release -p connring-peers --bin cycles
program=${CARGO_TARGET_DIR:-target}/release/cycles

# instructions CONTESTANT: prints the instructions of all cycles.
instructions() {
    timeout 300 valgrind --tool=callgrind --collect-atstart=no --toggle-collect='cycles::counted*' \
        --callgrind-out-file="$scratch/callgrind" "$program" "$1" "$cycles" 2>"$scratch/log" || {
        cat "$scratch/log" >&2
        return 1
    }
    awk '/^totals:/ { print $2 }' "$scratch/callgrind"
}

# system_calls CONTESTANT CYCLES: prints the system calls of the whole process.
system_calls() {
    timeout 300 strace -f -o "$scratch/strace" "$program" "$1" "$2"
    grep -vc -e '+++ exited' -e ' resumed>' "$scratch/strace"
}

for contestant in floor-sync floor-async connring-sync connring-async weighted-sync connring-wait; do
    # The least of nine: by where a run ends in a task's budget, and by a tick of the background task in it, there is one
    # call more or less, which no cycle makes.
    calls=$(for _ in 1 2 3 4 5 6 7 8 9; do
        short=$(system_calls "$contestant" 1000)
        echo $(($(system_calls "$contestant" $((1000 + cycles))) - short))
    done | sort -n | head -n 1)
    total=$(instructions "$contestant")
    echo "$contestant $total $calls"
done >"$scratch/counts"

awk -v cycles="$cycles" '
    function fail(reason) { failures = failures "error: " contestant ": " reason "\n" }
    /^#/ { next }
    FILENAME ~ /instructions.txt$/ { bound[$1] = $2; next }
    FNR == 1 { print "instructions and system calls of a hot acquire and release\n"
               print "contestant      instructions  bound  of the floor  system calls in " cycles }
    {
        contestant = $1; count = $2 / cycles; calls = $3; seen++
        split(contestant, part, "-"); kind = part[2]
        if (part[1] == "floor") floor[kind] = count
        if (part[1] == "connring") in_turn[kind] = count
        ratio = kind in floor ? count / floor[kind] : 0
        printf "%-15s %12.1f  %5d  %12.2f  %d\n", contestant, count, bound[contestant], ratio, calls
        # A missing bound is 0, and so is the count if callgrind did not find the function.
        if (bound[contestant] <= 0) fail("no bound in instructions.txt")
        if (count < 50) fail("too few instructions for an acquire: callgrind did not count them")
        if (count > 1.03 * bound[contestant]) fail("more than 3 % above its bound")
        if (count < 0.97 * bound[contestant]) print "note: " contestant " is more than 3 % below its bound: lower it"
        goal = kind == "sync" ? 320 : 375
        if (part[1] == "connring" && kind in floor && count > goal) print "note: " contestant " misses the goal of " goal " instructions"
        if (part[1] == "connring" && ratio > 1.25) print "note: " contestant " misses the goal of 1.25 times the floor"
        if (part[1] == "weighted" && count > 1.1 * in_turn[kind])
            print "note: " contestant " misses the goal of 1.10 times round robin: " count / in_turn[kind]
        # A caller that waits lets its runtime look for events.
        if (kind in floor && calls > (kind == "sync" ? 0 : cycles / 128 + 1)) fail("makes system calls")
    }
    END {
        if (seen != 6) failures = failures "error: " seen " contestants were counted, not 6\n"
        printf "\n%s", failures
        exit failures != ""
    }
' benches/instructions.txt "$scratch/counts"
