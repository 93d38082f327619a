#!/usr/bin/env bash
# Applies each mutation to a copy of `src/raw` and checks that the named model fails. The run ends with an error at the
# first mutant that its model does not catch or that does not compile.
#
# ./mutants.sh [MODEL]: only the mutants of models whose name contains MODEL.
#
# Two halves run at the same time, since a mutant keeps one core busy.
set -euo pipefail

if [ -z "${HALF:-}" ]; then
    HALF=0 "$0" "$@" &
    first=$!
    HALF=1 "$0" "$@" &
    second=$!
    wait "$first" || {
        wait "$second"
        exit 1
    }
    wait "$second"
    exit
fi

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/target}/mutants-$HALF
# A mutant runs so briefly that optimizing it would take longer.
export CARGO_PROFILE_TEST_DEBUG=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0
cargo_test=(cargo test --quiet --test models)
for profile in dev test; do
    cargo_test+=(--config "profile.$profile.opt-level=0" --config "profile.$profile.package.'*'.opt-level=2")
done
only=${1:-}
seen=0
caught=0

# keep_models_of MODULE: leaves out the models of other modules, whose build would take most of the time.
keep_models_of() {
    local used
    used=$(grep -oh 'crate::[a-z_]*' "src/$1.rs" | sort -u | sed 's/crate:://' | paste -sd '|')
    KEPT="$1|$used" perl -0pi -e 's/^pub mod (?!(?:$ENV{KEPT});)\w+;\n//mg' src/lib.rs
    MODULE=$1 perl -0pi -e 's/(models! \{\n).*?(    $ENV{MODULE}: [^;]*;\n).*?\}\n/$1$2}\n/s' tests/models.rs
}

# mutant MODEL FILE FROM TO: replaces the only occurrence of FROM in src/raw/FILE with TO, and runs MODEL.
mutant() {
    local model=$1 file=$2
    [[ $model == *"$only"* ]] || return 0
    seen=$((seen + 1))
    [ $((seen % 2)) = "$HALF" ] || return 0
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
    keep_models_of "${model%%::*}"
    if ! "${cargo_test[@]}" --no-run >"$work/log" 2>&1; then
        cat "$work/log"
        echo "DOES NOT COMPILE: $model, $file: $3"
        exit 1
    fi
    local code=0
    timeout 300 "${cargo_test[@]}" -- --exact "$model" >"$work/log" 2>&1 || code=$?
    # A failed test exits with 101, and so does cargo after the abort of a deadlock. A timeout exits with 124.
    if [ "$code" != 101 ] || grep -q "0 passed; 0 failed" "$work/log"; then
        tail -n 20 "$work/log"
        echo "NOT CAUGHT (exit $code) by $model: $file: $3"
        exit 1
    fi
    caught=$((caught + 1))
    echo "caught by $model: $file: $(head -n 1 <<<"$3" | sed 's/^ *//')"
}

# swap MODEL FILE LINE FROM TO: replaces FROM with TO within the only occurrence of LINE, and runs MODEL.
swap() {
    mutant "$1" "$2" "$3" "${3/"$4"/"$5"}"
}

put='self.item.compare_exchange(null_mut(), item, Ordering::SeqCst, Ordering::Relaxed)'
take='self.item.compare_exchange(found, null_mut(), Ordering::Acquire, Ordering::Relaxed).is_ok()'
closed='if self.closed.load(Ordering::SeqCst) {'
push_fence='        // `WaitQueue::join`.
        fence(Ordering::SeqCst);'
close_fence='        // SeqCst: pairs with the SeqCst operations of `push`.
        fence(Ordering::SeqCst);'
pop='self.shards_from(thread).find_map(|shard| if shard.is_empty() { None } else { shard.pop() })'
join_fence='        // SeqCst: the count, then the look; pairs with a push and the load of `Signals::waiters` after it.
        fence(Ordering::SeqCst);'
rejoin_fence='        // SeqCst: as in `join`.
        fence(Ordering::SeqCst);'
waiters='self.waiters.load(Ordering::SeqCst)'
change_fence='        // SeqCst: the change, then the load; pairs with the fence of `WaitQueue::join`.
        fence(Ordering::SeqCst);'
refresh_fence=' pairs with a SeqCst push and the SeqCst load after it.
            fence(Ordering::SeqCst);'
succeeded_fence='        // of the health and before this word is read.
        fence(Ordering::SeqCst);'
look_fence='        // SeqCst: the word, then the look; pairs with the fence of `must_wake`.
        fence(Ordering::SeqCst);'
wake_fence='        // SeqCst: the change, then the word; pairs with the fence of `look`.
        fence(Ordering::SeqCst);'
tier_fence='        // SeqCst: the change, then the word; pairs with the fence of `announce`.
        fence(Ordering::SeqCst);'
announce_fence='        // SeqCst: the word, then the look at the servers; pairs with the fence of `after_change`.
        fence(Ordering::SeqCst);'
begin='self.word.compare_exchange_weak(found.0, next, Ordering::Acquire, Ordering::Relaxed)'
begin_run='!self.running.swap(true, Ordering::Acquire)'

# The slot: ownership, then orderings.
mutant slot::an_item_is_owned_once slot.rs "$put" \
    '{ self.item.store(item, Ordering::SeqCst); if item.is_null() { Err(()) } else { Ok(()) } }'
swap slot::an_item_is_owned_once slot.rs "$put" SeqCst Relaxed
swap slot::an_item_is_owned_once slot.rs "$take" Acquire Relaxed
mutant slot::an_item_is_taken_once slot.rs "$take" '{ self.item.store(null_mut(), Ordering::Relaxed); true }'
mutant slot::an_address_that_comes_back_is_a_new_item slot.rs "$take" \
    '{ self.item.store(null_mut(), Ordering::Relaxed); true }'
swap slot::an_address_that_comes_back_is_a_new_item slot.rs "$take" Acquire Relaxed
swap slot::a_waiter_is_served_or_finds_the_item slot.rs "$put" SeqCst Release
swap slot::a_waiter_is_served_or_finds_the_item signals.rs "$waiters" SeqCst Acquire
mutant slot::a_waiter_is_served_or_finds_the_item wait_queue.rs "$join_fence" ''

# The idle connections: the handshake with the close, first with items in the slot, then in the queue.
for model in nothing_stays_behind_the_closed_bit nothing_stays_behind_the_closed_bit_in_any_shard \
    each_item_is_reused_or_closed_once; do
    swap "idle::$model" slot.rs "$put" SeqCst Release
    swap "idle::$model" idle.rs "$closed" SeqCst Acquire
    mutant "idle::$model" idle.rs "$close_fence" ''
done
for model in nothing_stays_in_the_queue_behind_the_closed_bit nothing_stays_behind_the_closed_bit_elsewhere; do
    mutant "idle::$model" idle.rs "$push_fence" ''
    mutant "idle::$model" idle.rs "$close_fence" ''
done
swap idle::the_closed_bit_shows_what_was_published idle.rs 'closed.store(true, Ordering::Release)' Release Relaxed
swap idle::the_closed_bit_shows_what_was_published idle.rs 'self.closed.load(Ordering::Acquire)' Acquire Relaxed
mutant idle::nothing_stays_behind_the_closed_bit idle.rs \
    'while let Some(item) = self.pop(0) {' 'if let Some(item) = self.pop(0) {'
mutant idle::nothing_stays_behind_the_closed_bit_in_any_shard idle.rs "$pop" 'self.pop_own(thread)'
mutant idle::nothing_stays_behind_the_closed_bit_elsewhere idle.rs \
    'while let Some(item) = self.pop(0) {' 'while let Some(item) = self.pop_own(0) {'
mutant idle::nothing_stays_behind_the_closed_bit_by_retain idle.rs "$push_fence" ''
mutant idle::nothing_stays_behind_the_closed_bit_by_retain idle.rs \
    'self.0.fence_and_drain_if_closed(&mut self.1);' 'let _ = &mut self.1;'
mutant idle::retain_loses_no_item idle.rs \
    'else if let Err(item) = shard.slot.put(item) {
                    self.push_elsewhere(item, thread, &mut *refuse);' 'else if let Err(item) = shard.slot.put(item) {
                    drop(item);'
for model in nothing_is_refused_while_there_is_room a_bound_refuses_what_exceeds_it; do
    mutant "idle::$model" idle.rs 'Err(item) => self.push_elsewhere(item, thread, refuse),' \
        'Err(item) => Some(item).into_iter().for_each(refuse),'
done
mutant idle::a_bound_refuses_what_exceeds_it idle.rs 'if bounded || !self.queue.is_empty() {' \
    'if !self.queue.is_empty() {'
mutant idle::an_item_elsewhere_is_found idle.rs "$pop" 'self.pop_own(thread)'

# The flag of changes.
note='self.flag.swap(true, Ordering::AcqRel)'
for model in the_last_look_sees_each_change the_later_note_sees_the_other_change; do
    swap "changed::$model" changed.rs "$note" AcqRel Relaxed
    mutant "changed::$model" changed.rs "$note" 'self.flag.store(true, Ordering::Release)'
done
swap changed::the_last_look_sees_each_change changed.rs 'self.flag.swap(false, Ordering::AcqRel)' AcqRel Relaxed

# The up set.
mutant up_set::the_bit_ends_as_the_fact server_set.rs 'if now == is_in {' 'if now == is_in || now != is_in {'
swap up_set::the_bit_ends_as_the_fact server_set.rs 'word.fetch_or(bit, Ordering::AcqRel)' AcqRel Relaxed
swap up_set::the_bit_ends_as_the_fact server_set.rs 'word.fetch_and(!bit, Ordering::AcqRel)' AcqRel Relaxed
swap up_set::the_bits_of_one_word_end_as_their_facts server_set.rs 'word.fetch_or(bit, Ordering::AcqRel)' AcqRel Relaxed
mutant up_set::the_bits_of_one_word_end_as_their_facts server_set.rs 'word.fetch_or(bit, Ordering::AcqRel)' \
    'let found = word.load(Ordering::Acquire); word.store(found | bit, Ordering::Release); found'
mutant up_set::a_bit_is_set_in_a_larger_bitmap server_set.rs "$refresh_fence" ''
for model in a_due_attempt_finds_an_idle_connection_or_is_woken no_connection_of_an_older_outage_stays_idle; do
    mutant "due::$model" server_set.rs "$refresh_fence" ''
    swap "due::$model" slot.rs "$put" SeqCst Release
    swap "due::$model" health.rs 'HealthSnapshot(self.word.load(Ordering::SeqCst))' SeqCst Relaxed
done
mutant due::a_server_that_goes_down_during_its_trial_is_tried_again server_set.rs "$refresh_fence" ''
mutant due::a_server_that_goes_down_during_its_trial_is_tried_again breaker.rs "$succeeded_fence" ''
mutant due::a_due_attempt_finds_a_permit_or_is_woken server_set.rs "$refresh_fence" ''
mutant due::a_due_attempt_finds_a_permit_or_is_woken signals.rs "$change_fence" ''

# The tier in use.
mutant tier_in_use::the_best_tier_that_serves_is_in_use server_set.rs 'if now == is_in {' 'if now == is_in || now != is_in {'
mutant tier_in_use::the_up_set_is_not_empty_during_a_switch tier_in_use.rs "$tier_fence" ''
mutant tier_in_use::the_up_set_is_not_empty_during_a_switch tier_in_use.rs "$announce_fence" ''
mutant tier_in_use::the_up_set_is_not_empty_during_a_switch tier_in_use.rs 'self.get() | SWITCHING' 'self.get()'

# The wait queue.
for model in no_wake_up_is_lost no_wake_up_is_lost_behind_a_full_slot no_wake_up_is_lost_between_shards \
    an_impatient_waiter_sees_the_last_attempt_end a_freed_permit_is_seen_by_a_new_waiter_or_told; do
    mutant "wait_queue::$model" wait_queue.rs "$join_fence" ''
done
swap wait_queue::no_wake_up_is_lost slot.rs "$put" SeqCst Release
swap put_back::no_wake_up_is_lost_while_another_item_is_looked_for slot.rs "$put" SeqCst Release
mutant put_back::a_last_resort_is_found_while_another_item_is_looked_for server_set.rs "$refresh_fence" ''
mutant put_back::no_wake_up_is_lost_while_another_item_is_looked_for wait_queue.rs "$join_fence" ''
mutant wait_queue::no_wake_up_is_lost wait_queue.rs 'Waiter { patient, wish: wish.clone(), waker });' \
    'Waiter { patient, wish: wish.clone(), waker: waker.filter(|_| false) });'
mutant wait_queue::no_wake_up_is_lost_behind_a_full_slot idle.rs "$push_fence" ''
swap wait_queue::no_wake_up_is_lost_between_shards slot.rs "$put" SeqCst Release
mutant wait_queue::no_wake_up_is_lost_between_shards idle.rs "$pop" 'self.pop_own(thread)'
mutant wait_queue::an_impatient_waiter_sees_the_last_attempt_end signals.rs "$change_fence" ''
mutant wait_queue::an_impatient_waiter_sees_the_last_attempt_end wait_queue.rs \
    'self.wake(|patient| !patient);' 'self.wake(|_| true);'
mutant wait_queue::a_freed_permit_is_seen_by_a_new_waiter_or_told signals.rs "$change_fence" ''
mutant wait_queue::a_waiter_that_leaves_passes_its_item_on wait_queue.rs \
    'else { return queue.served.remove(ticket.number) };' 'else { return None };'
mutant wait_queue::a_waiter_that_is_never_polled_blocks_no_other wait_queue.rs \
    'queue.joined.pop_front().map(|(number, waiter)| (number, waiter, item)),' \
    '{
                            let number = queue.joined.front().map_or(0, |(number, _)| number);
                            queue.joined.get_mut(number).map(|front| {
                                (number, Waiter { patient: true, wish: None, waker: front.waker.take() }, item)
                            })
                        }'
mutant wait_queue::no_wake_up_is_lost_behind_a_waiter_with_a_wish wait_queue.rs 'queue.take_behind(&mut supply)' 'None'
mutant wait_queue::waiters_are_served_in_order wait_queue.rs 'queue.joined.pop_front().map(' \
    '({
                            let last = queue.joined.iter().last().map_or(0, |(number, _)| number);
                            queue.joined.remove(last).map(|waiter| (last, waiter))
                        }).map('
mutant wait_queue::a_waiter_that_rejoins_keeps_its_place wait_queue.rs 'queue.joined.insert(ticket.number,' \
    'ticket.number = queue.next_number; queue.next_number += 1; queue.joined.insert(ticket.number,'
mutant wait_queue::a_waiter_that_rejoins_misses_no_item wait_queue.rs "$rejoin_fence" ''
mutant wait_queue::no_waiter_is_woken_without_an_item wait_queue.rs \
    '                    let taken = match supply(' \
    '                    if let Some(waker) = &front.waker { waker.wake_by_ref(); }
                    let taken = match supply('
mutant wait_queue::the_number_of_waiters_is_that_of_the_queue wait_queue.rs \
    '        self.count(ticket.patient, ticket.wish.is_some(), -1);
        // Releases the lock before the waker drops (I5).' ''
mutant wait_queue::the_number_of_waiters_is_that_of_the_queue wait_queue.rs \
    '                    self.count(waiter.patient, waiter.wish.is_some(), -1);
                    batch += 1;' '                    batch += 1;'

# The background task.
mutant wake_at::a_change_is_seen_or_wakes wake_at.rs "$look_fence" ''
mutant wake_at::a_change_is_seen_or_wakes wake_at.rs "$wake_fence" ''
mutant wake_at::a_waiter_is_seen_or_wakes wake_at.rs "$look_fence" ''
mutant wake_at::a_waiter_sees_the_task_end_or_is_woken signals.rs "$begin_run" \
    '{ let running = self.running.load(Ordering::Acquire); self.running.store(true, Ordering::Relaxed); !running }'
swap wake_at::a_waiter_sees_the_task_end_or_is_woken signals.rs "$begin_run" Acquire Relaxed
swap wake_at::a_waiter_sees_the_task_end_or_is_woken signals.rs 'self.running.store(false, Ordering::Release);' \
    Release Relaxed
mutant wake_at::a_waiter_sees_the_task_end_or_is_woken wait_queue.rs \
    'self.wake(|_| true);' 'self.wake(|patient| !patient);'

# The permits.
mutant permits::never_more_than_the_maximum permits.rs "$begin" \
    '{ self.word.fetch_add(next - found.0, Ordering::Acquire); if found.0 < next { Ok(0) } else { Err(found.0) } }'
mutant permits::never_more_than_the_maximum permits.rs 'found.connecting() < most.min(' \
    'found.connecting() <= most.min('
mutant permits::the_counts_are_kept permits.rs 'self.word.fetch_sub(PermitCounts::CONNECTING, Ordering::Relaxed)' \
    '{ let word = self.word.load(Ordering::Relaxed); self.word.store(word - 1, Ordering::Relaxed); word }'
mutant permits::a_changed_maximum_loses_none permits.rs \
    'match self.word.compare_exchange_weak(found.0, set, Ordering::Relaxed, Ordering::Relaxed) {' \
    'match { self.word.store(set, Ordering::Relaxed); if max > 0 { Ok(()) } else { Err(found.0) } } {'
swap permits::a_permit_carries_what_its_last_holder_did permits.rs 'self.word.fetch_sub(change, Ordering::Release)' \
    Release Relaxed
swap permits::a_permit_carries_what_its_last_holder_did permits.rs "$begin" Acquire Relaxed

# The words that pause connecting, and count failures and answers.
mutant breaker::one_caller_begins_the_trial breaker.rs '(found.may_begin(now) == Some(true)).then(' \
    '(found.may_begin(now) != Some(false)).then('
mutant breaker::a_pause_is_ended_by_one_trial breaker.rs \
    'match self.transition(|found| (found.may_begin(now) == Some(true)).then(' \
    'let due = self.snapshot().may_begin(now)?;
        match self.transition(|found| (due && found.state() != BreakerState::Trying).then('
mutant breaker::failures_of_one_round_count_once breaker.rs \
    'match self.word.compare_exchange_weak(found.0, left.0, Ordering::Relaxed, Ordering::Relaxed) {' \
    'match { self.word.store(left.0, Ordering::Relaxed); if left == left { Ok(()) } else { Err(found.0) } } {'
mutant breaker::a_late_failure_of_an_older_round_counts_nothing breaker.rs '&& found.round() == pass.round,' ','
mutant breaker::a_late_failure_of_an_older_round_counts_nothing breaker.rs 'self.turn() + 1,' 'self.turn(),'
mutant breaker::the_owner_of_a_trial_decides breaker.rs 'BreakerState::Trying => pass.is_trial,' \
    'BreakerState::Trying => true,'
mutant breaker::the_owner_of_a_trial_decides breaker.rs 'pass.is_trial.then(|| found.closed())' 'Some(found.closed())'
mutant breaker::an_abandoned_trial_allows_the_next breaker.rs \
    'pass.is_trial.then(|| found.paused(found.failures(), until))' \
    '(pass.is_trial && until == Time::NEVER).then(|| found.paused(found.failures(), until))'
mutant breaker::an_abandoned_trial_allows_the_next breaker.rs 'found.paused(found.failures(), until)' \
    'found.paused(found.failures() + 1, until)'
for model in one_report_reaches_the_threshold a_clear_starts_again; do
    mutant "strikes::$model" strikes.rs \
        'match self.word.compare_exchange_weak(found, next(found), Ordering::Relaxed, Ordering::Relaxed) {' \
        'match { self.word.store(next(found), Ordering::Relaxed); if found == found { Ok(()) } else { Err(0) } } {'
done
mutant strikes::one_report_reaches_the_threshold strikes.rs 'if count == 0 ||' \
    'if count == 0 || now < Time::from_steps(first) ||'
for model in the_count_is_exact the_count_is_that_of_the_newest_outage; do
    mutant "answered::$model" answered.rs \
        'let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);' \
        'if let Some(left) = next(self.0.load(Ordering::Relaxed)) { self.0.store(left, Ordering::Relaxed); }'
done
mutant answered::the_count_is_that_of_the_newest_outage answered.rs 'outage.number() << COUNT_BITS | 1' \
    'outage.number() << COUNT_BITS | (word & COUNT_MAX) + 1'
mutant answered::the_count_is_that_of_the_newest_outage answered.rs '(newest == outage.number() && word' '(word'

# The health, and its count of serving servers.
lower='        if found.serves() {
            serving.lower(found.tier());
        }
        let (found, left) = self.set(next);'
lower_late='        let before = found;
        let (found, left) = self.set(next);
        if before.serves() {
            serving.lower(before.tier());
        }'
raise='        let (found, left) = self.set(next);
        if left.serves() {
            serving.raise(left.tier());
        }'
raise_early='        let left = next(found);
        if left.serves() {
            serving.raise(left.tier());
        }
        let (found, left) = self.set(next);'
set_bits='        let mut ejections = lock(&self.ejections);
        let changes = self.snapshot().0 & mask != bits;
        if changes {
            self.change(&mut ejections, serving, now, |found| HealthSnapshot(found.0 & !mask | bits));'
set_bits_unlocked='        let found = self.snapshot();
        let changes = found.0 & mask != bits;
        if changes {
            let next = |found: HealthSnapshot| HealthSnapshot(found.0 & !mask | bits);
            let left = self.change(&mut Ejections::new(), serving, now, next);
            lock(&self.ejections).note(found, left, now);'
fails='let counts = !found.is_down() && found.outage() == outage;'
mutant health::failures_of_one_outage_take_the_server_down_once health.rs "$fails" 'let counts = outage == outage;'
mutant health::a_failure_of_an_older_outage_counts_nothing health.rs "$fails" 'let counts = !found.is_down();'
mutant health::a_failure_of_an_older_outage_counts_nothing health.rs \
    'found.is_removed() || found.outage() != outage {' 'found.is_removed() {'
mutant health::a_recovery_ends_by_the_protocol health.rs \
    'found.state() == HealthState::Recovering && found.outage() == outage;' \
    'found.state() != HealthState::Up && outage == outage;'
mutant health::an_order_keeps_the_state health.rs \
    'match self.word.compare_exchange_weak(found.0, left.0, Ordering::Release, Ordering::Relaxed) {' \
    'match Ok::<_, u64>(self.word.store(left.0, Ordering::Release)) {'
mutant health::an_outage_is_ended_once health.rs '!is_ejected && self.come_back' \
    '(is_ejected || !is_ejected) && self.come_back'
mutant health::an_outage_is_ended_once health.rs 'let ends = found.is_down() && found.outage() == outage;' \
    'let ends = found.outage() == outage;'
swap health::an_ejection_that_is_seen_has_its_end health.rs 'self.word.load(Ordering::Acquire)' Acquire Relaxed
swap health::an_ejection_that_is_seen_has_its_end health.rs \
    'self.word.compare_exchange_weak(found.0, left.0, Ordering::Release, Ordering::Relaxed)' Release Relaxed
mutant health::failures_from_before_a_reset_count_nothing health.rs '        let _orders = lock(&self.ejections);
        self.set(' '        self.set('
mutant health::failures_from_before_a_reset_count_nothing health.rs \
    'self.set(|found| found.renumbered(now));' 'self.set(|found| found);'
mutant health::an_ejection_that_is_seen_has_its_end health.rs '        let found = self.snapshot();
        if found.is_down() ||' '        self.ejected_until.store(until(1).as_nanos(), Ordering::Relaxed);
        let found = self.snapshot();
        if found.is_down() ||'
mutant health::time_out_of_rotation_is_not_served health.rs "$set_bits" "$set_bits_unlocked"
mutant serving::ejections_keep_the_bound serving.rs \
    'self.tiers[tier].fetch_update(Ordering::Relaxed, Ordering::Relaxed, allows).is_ok()' \
    '{ let word = &self.tiers[tier];
            allows(word.load(Ordering::Relaxed)).map(|left| word.store(left, Ordering::Relaxed)).is_some() }'
mutant serving::ejections_keep_the_bound health.rs '!serving.lower_within(found.tier(), found.serves(), max_ejected_ratio)' \
    '{ serving.lower(found.tier()); max_ejected_ratio > 1.0 }'
for model in the_last_server_is_not_ejected the_bound_holds_beside_other_changes; do
    mutant "serving::$model" health.rs "$lower" "$lower_late"
done
for model in a_server_counts_once_it_serves the_bound_holds_beside_other_changes; do
    mutant "serving::$model" health.rs "$raise" "$raise_early"
done
swap serving::a_server_counts_once_it_serves serving.rs 'self.all.fetch_add(SERVING, Ordering::Release);' Release Relaxed
swap serving::a_server_counts_once_it_serves serving.rs \
    'self.all.fetch_update(Ordering::Acquire, Ordering::Relaxed, leaves_one)' Acquire Relaxed
mutant serving::the_only_server_that_serves_is_not_ejected serving.rs '(all > out).then(|| all - out)' \
    'Some(all - out)'
mutant serving::the_only_server_that_serves_is_not_ejected health.rs "$set_bits" "$set_bits_unlocked"
mutant serving::ejections_leave_a_server_of_some_tier serving.rs \
    'self.all.fetch_update(Ordering::Acquire, Ordering::Relaxed, leaves_one).is_err()' \
    'leaves_one(self.all.load(Ordering::Acquire)).map(|left| self.all.store(left, Ordering::Relaxed)).is_none()'
mutant serving::the_count_ends_as_the_truth health.rs 'if left.serves() {' 'if !found.serves() {'
mutant serving::the_count_ends_as_the_truth health.rs 'serving.raise(left.tier());' 'serving.raise(found.tier());'

# The bucket.
mutant bucket::concurrent_takes_grant_the_quota bucket.rs \
    'match self.tat.compare_exchange_weak(found, left, Ordering::Relaxed, Ordering::Relaxed) {' \
    'match { self.tat.store(left, Ordering::Relaxed); if found == found { Ok(found) } else { Err(found) } } {'
for model in concurrent_takes_grant_the_quota a_token_that_was_seen_may_be_gone; do
    mutant "bucket::$model" bucket.rs 'Err(tat) if tat > seen.latest => return None,' ''
done
mutant bucket::an_undo_is_exact_or_nothing bucket.rs \
    'self.tat.compare_exchange(receipt.left, receipt.found, Ordering::Relaxed, Ordering::Relaxed).is_ok()' \
    '{ self.tat.store(receipt.found, Ordering::Relaxed); true }'
mutant bucket::a_successor_inherits_the_tokens_that_are_left bucket.rs \
    'self.tat.swap(RETIRED, Ordering::Relaxed)' 'self.tat.load(Ordering::Relaxed)'

# The pool.
mutant pool::every_caller_is_served wait_queue.rs "$join_fence" ''
mutant pool::every_caller_is_served permits.rs \
    'self.word.fetch_sub(change, Ordering::Release)' 'self.word.fetch_sub(0 * change, Ordering::Release)'

echo "half $((HALF + 1)) of 2: $caught mutants, all caught"
