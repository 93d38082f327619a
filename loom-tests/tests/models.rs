//! Each model is a test. Under nextest each has a process of its own: a deadlock aborts the process.

macro_rules! models {
    ($($module:ident: $($model:ident)+;)+) => { $(mod $module { $(
        #[test]
        fn $model() {
            connring_loom_tests::$module::$model();
        }
    )+ })+ };
}

models! {
    alarm: a_change_is_seen_or_rings who_joins_is_watched;
    bucket: takes_grant_the_quota an_undo_is_exact_or_nothing a_successor_inherits_what_is_missing
        what_was_seen_may_be_gone;
    health: one_probes failures_of_one_generation_count_once a_dropped_probe_reopens a_trial_ends_by_the_protocol
        strikes_add_up;
    idle: nothing_stays_behind_the_closed_bit nothing_stays_behind_the_closed_bit_in_any_stripe
        nothing_stays_behind_the_closed_bit_elsewhere each_is_reused_or_closed_once
        nothing_is_refused_while_there_is_room what_stays_elsewhere_is_found;
    line: no_wake_up_is_lost no_wake_up_is_lost_between_stripes who_leaves_passes_on
        who_is_never_polled_again_blocks_nobody first_come_first_served who_rejoins_keeps_its_place
        nobody_is_woken_for_nothing;
    permits: never_more_than_the_maximum a_changed_maximum_loses_none a_permit_carries_what_its_last_holder_did;
    pool: everybody_is_served;
    retry: a_retry_finds_room_or_is_entered_again;
}
