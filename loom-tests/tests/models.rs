//! Runs each model as a test. A deadlock aborts the process; nextest runs each test in its own process.

macro_rules! models {
    ($($module:ident: $($model:ident)+;)+) => { $(mod $module { $(
        #[test]
        fn $model() {
            connring_loom_tests::$module::$model();
        }
    )+ })+ };
}

models! {
    answered: the_count_is_exact the_count_is_that_of_the_newest_outage;
    breaker: one_caller_begins_the_trial a_pause_is_ended_by_one_trial failures_of_one_round_count_once
        a_late_failure_of_an_older_round_counts_nothing the_owner_of_a_trial_decides
        an_abandoned_trial_allows_the_next;
    bucket: concurrent_takes_grant_the_quota a_token_that_was_seen_may_be_gone an_undo_is_exact_or_nothing
        a_successor_inherits_the_tokens_that_are_left;
    changed: the_last_look_sees_each_change the_later_note_sees_the_other_change;
    due: a_due_attempt_finds_a_permit_or_is_woken a_due_attempt_finds_an_idle_connection_or_is_woken
        a_server_that_goes_down_during_its_trial_is_tried_again no_connection_of_an_older_outage_stays_idle;
    health: failures_of_one_outage_take_the_server_down_once a_failure_of_an_older_outage_counts_nothing
        a_recovery_ends_by_the_protocol an_order_keeps_the_state an_outage_is_ended_once
        an_ejection_that_is_seen_has_its_end failures_from_before_a_reset_count_nothing
        time_out_of_rotation_is_not_served;
    idle: the_closed_bit_shows_what_was_published
        nothing_stays_behind_the_closed_bit nothing_stays_in_the_queue_behind_the_closed_bit
        nothing_stays_behind_the_closed_bit_in_any_shard nothing_stays_behind_the_closed_bit_elsewhere
        nothing_stays_behind_the_closed_bit_by_retain retain_loses_no_item each_item_is_reused_or_closed_once
        nothing_is_refused_while_there_is_room a_bound_refuses_what_exceeds_it an_item_elsewhere_is_found;
    permits: never_more_than_the_maximum the_counts_are_kept a_changed_maximum_loses_none
        a_permit_carries_what_its_last_holder_did;
    pool: every_caller_is_served;
    put_back: no_wake_up_is_lost_while_another_item_is_looked_for
        a_last_resort_is_found_while_another_item_is_looked_for;
    serving: ejections_keep_the_bound the_last_server_is_not_ejected the_only_server_that_serves_is_not_ejected
        a_server_counts_once_it_serves the_count_ends_as_the_truth the_bound_holds_beside_other_changes
        ejections_leave_a_server_of_some_tier;
    slot: an_item_is_owned_once an_item_is_taken_once an_address_that_comes_back_is_a_new_item
        a_waiter_is_served_or_finds_the_item;
    strikes: one_report_reaches_the_threshold a_clear_starts_again;
    tier_in_use: the_best_tier_that_serves_is_in_use the_up_set_is_not_empty_during_a_switch;
    up_set: the_bit_ends_as_the_fact the_bits_of_one_word_end_as_their_facts
        a_bit_is_set_in_a_larger_bitmap;
    wait_queue: no_wake_up_is_lost no_wake_up_is_lost_behind_a_full_slot no_wake_up_is_lost_between_shards
        no_wake_up_is_lost_behind_a_waiter_with_a_wish
        a_waiter_that_leaves_passes_its_item_on a_waiter_that_is_never_polled_blocks_no_other
        waiters_are_served_in_order a_waiter_that_rejoins_keeps_its_place a_waiter_that_rejoins_misses_no_item
        no_waiter_is_woken_without_an_item an_impatient_waiter_sees_the_last_attempt_end
        a_freed_permit_is_seen_by_a_new_waiter_or_told the_number_of_waiters_is_that_of_the_queue;
    wake_at: a_change_is_seen_or_wakes a_waiter_is_seen_or_wakes a_waiter_sees_the_task_end_or_is_woken;
}
