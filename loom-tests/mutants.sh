#!/usr/bin/env bash
# Breaks the kernel on purpose, one way after the other, in a copy, and shows that the model named for it fails.
# A mutant that its model does not catch, or that does not compile, ends the run with an error.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/target}/mutants
caught=0

# mutant MODEL FILE FROM TO: replaces the only FROM in src/raw/FILE by TO, and runs MODEL.
mutant() {
    local model=$1 file=$2
    rm -rf "$work/src" "$work/loom-tests"
    mkdir -p "$work/src" "$work/loom-tests"
    cp -r "$here/../src/raw" "$work/src/raw"
    cp -r "$here/Cargo.toml" "$here/src" "$here/tests" "$work/loom-tests/"
    if [ -f "$here/Cargo.lock" ]; then cp "$here/Cargo.lock" "$work/loom-tests/"; fi
    FROM=$3 TO=$4 perl -0pi -e '
        my $found = () = /\Q$ENV{FROM}\E/g;
        $found == 1 or die "found $found times, not once: $ENV{FROM}\n";
        s/\Q$ENV{FROM}\E/$ENV{TO}/' "$work/src/raw/$file"
    cd "$work/loom-tests"
    if ! cargo test --quiet --no-run >"$work/log" 2>&1; then
        cat "$work/log"
        echo "DOES NOT COMPILE: $model, $file: $3"
        exit 1
    fi
    local code=0
    timeout 300 cargo test --quiet --test models -- --exact "$model" >"$work/log" 2>&1 || code=$?
    # A failed test is 101, the abort of a deadlock ends cargo with the same; a timeout is 124.
    if [ "$code" != 101 ] || grep -q "0 passed; 0 failed" "$work/log"; then
        tail -n 20 "$work/log"
        echo "NOT CAUGHT (exit $code) by $model: $file: $3"
        exit 1
    fi
    caught=$((caught + 1))
    echo "caught by $model: $file: $(head -n 1 <<<"$3" | sed 's/^ *//')"
}

join_fence='        // SeqCst: pairs with the fence of whoever puts something there and then looks at `waiting`.
        fence(Ordering::SeqCst);'
push_fence='        // SeqCst: pairs with the fence of `close`, and with that of `Line::join`.
        fence(Ordering::SeqCst);'
close_fence='        // SeqCst: pairs with the fence of `push`.
        fence(Ordering::SeqCst);'
pop='self.from(near).find_map(|stripe| if stripe.is_empty() { None } else { stripe.pop() })'

mutant alarm::a_change_is_seen_or_rings alarm.rs \
    '        // SeqCst: pairs with the fence of `must_ring`: `until`, then the look.
        fence(Ordering::SeqCst);' ''
mutant alarm::a_change_is_seen_or_rings alarm.rs \
    '        // SeqCst: pairs with the fence of `look`: the change, then `until`.
        fence(Ordering::SeqCst);' ''
mutant alarm::who_joins_is_watched alarm.rs \
    '        // SeqCst: pairs with the fence of `Line::join`: nobody watches, then the look at the line.
        fence(Ordering::SeqCst);' ''
mutant alarm::who_joins_is_watched line.rs "$join_fence" ''
mutant alarm::who_joins_is_watched alarm.rs '!self.watched.swap(true, Ordering::Acquire)' \
    '{ let watched = self.watched.load(Ordering::Acquire); self.watched.store(true, Ordering::Relaxed); !watched }'

mutant bucket::takes_grant_the_quota bucket.rs \
    'match self.tat.compare_exchange_weak(found, left, Ordering::Relaxed, Ordering::Relaxed) {' \
    'match { self.tat.store(left, Ordering::Relaxed); if found == found { Ok(found) } else { Err(found) } } {'
for model in takes_grant_the_quota what_was_seen_may_be_gone; do
    mutant "bucket::$model" bucket.rs 'Err(tat) if tat > seen.latest => return None,' ''
done
mutant bucket::an_undo_is_exact_or_nothing bucket.rs \
    'self.tat.compare_exchange(receipt.left, receipt.found, Ordering::Relaxed, Ordering::Relaxed).is_ok()' \
    '{ self.tat.store(receipt.found, Ordering::Relaxed); true }'
mutant bucket::a_successor_inherits_what_is_missing bucket.rs \
    'self.tat.swap(RETIRED, Ordering::Relaxed)' 'self.tat.load(Ordering::Relaxed)'

mutant permits::never_more_than_the_maximum permits.rs \
    'match self.word.compare_exchange_weak(found.0, left.0, Ordering::Acquire, Ordering::Relaxed) {' \
    'match { self.word.fetch_add(1, Ordering::Acquire); if found.0 < left.0 { Ok(()) } else { Err(found.0) } } {'
mutant permits::a_changed_maximum_loses_none permits.rs \
    'match self.word.compare_exchange_weak(found.0, left.0, Ordering::Relaxed, Ordering::Relaxed) {' \
    'match { self.word.store(left.0, Ordering::Relaxed); if max > 0 { Ok(()) } else { Err(found.0) } } {'
mutant permits::a_permit_carries_what_its_last_holder_did permits.rs \
    'self.word.fetch_sub(1, Ordering::Release)' 'self.word.fetch_sub(1, Ordering::Relaxed)'
mutant permits::a_permit_carries_what_its_last_holder_did permits.rs \
    'compare_exchange_weak(found.0, left.0, Ordering::Acquire, Ordering::Relaxed)' \
    'compare_exchange_weak(found.0, left.0, Ordering::Relaxed, Ordering::Relaxed)'

mutant health::one_probes health.rs \
    'found.state() == HealthState::Down && found.retry_at() <= now_ns' 'found.retry_at() <= now_ns'
mutant health::failures_of_one_generation_count_once health.rs \
    'found.is_up() && found.generation() == generation' 'found.generation() == found.generation() || generation == generation'
mutant health::a_dropped_probe_reopens health.rs \
    '        if !self.decided {' '        if !self.decided && self.decided {'
mutant health::a_trial_ends_by_the_protocol health.rs \
    'found.is_changed_by_release(generation).then(' '(found.0 > 0 || generation == generation).then('
mutant health::strikes_add_up health.rs \
    'match self.word.compare_exchange_weak(found.0, left.0, Ordering::Relaxed, Ordering::Relaxed) {' \
    'match { self.word.store(left.0, Ordering::Relaxed); if left == left { Ok(()) } else { Err(found.0) } } {'

for model in nothing_stays_behind_the_closed_bit nothing_stays_behind_the_closed_bit_in_any_stripe \
    nothing_stays_behind_the_closed_bit_elsewhere each_is_reused_or_closed_once; do
    mutant "idle::$model" idle.rs "$push_fence" ''
    mutant "idle::$model" idle.rs "$close_fence" ''
done
mutant idle::nothing_stays_behind_the_closed_bit idle.rs \
    'while let Some(item) = self.pop(0) {' 'if let Some(item) = self.pop(0) {'
mutant idle::nothing_stays_behind_the_closed_bit_in_any_stripe idle.rs "$pop" 'self.pop_near(near)'
mutant idle::nothing_stays_behind_the_closed_bit_elsewhere idle.rs \
    'while let Some(item) = self.pop(0) {' 'while let Some(item) = self.pop_near(0) {'
mutant idle::nothing_is_refused_while_there_is_room idle.rs \
    'if may_be_full() && self.stripes.iter().all(ArrayQueue::is_full) {' 'if may_be_full() || near == near {'
mutant idle::what_stays_elsewhere_is_found idle.rs "$pop" 'self.pop_near(near)'

mutant line::no_wake_up_is_lost line.rs "$join_fence" ''
mutant line::no_wake_up_is_lost idle.rs "$push_fence" ''
mutant line::no_wake_up_is_lost_between_stripes line.rs "$join_fence" ''
mutant line::no_wake_up_is_lost_between_stripes idle.rs "$push_fence" ''
mutant line::no_wake_up_is_lost_between_stripes idle.rs "$pop" 'self.pop_near(near)'
mutant line::who_leaves_passes_on line.rs \
    '            drop(waker);
            return None;
        }
        queue.vacate(slot)' \
    '            drop(waker);
            return None;
        }
        queue.vacate(slot).filter(|_| false)'
mutant line::who_is_never_polled_again_blocks_nobody line.rs \
    '                self.unlink(ahead, behind);
                waker' \
    '                let _ = (ahead, behind);
                waker'
mutant line::first_come_first_served line.rs \
    'let Some(front) = queue.front else { break };' 'let Some(front) = queue.back else { break };'
mutant line::who_rejoins_keeps_its_place line.rs \
    'if number > place.number {' 'if number < place.number {'
mutant line::nobody_is_woken_for_nothing line.rs \
    '                    let Some(item) = supply() else { break };' \
    '                    if let Slot::Joined { waker: Some(waker), .. } = &queue.slots[front] { waker.wake_by_ref(); }
                    let Some(item) = supply() else { break };'

mutant pool::everybody_is_served line.rs "$join_fence" ''
mutant pool::everybody_is_served permits.rs \
    'self.word.fetch_sub(1, Ordering::Release)' 'self.word.fetch_sub(0, Ordering::Release)'

echo "$caught mutants, all caught"
