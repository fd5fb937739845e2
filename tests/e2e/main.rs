//! The promises of Postrider, one file each, kept against real servers.

mod a_batch_is_accepted_item_by_item;
mod a_campaign_stands_in_front_of_nobody;
mod a_client_that_reads_nothing_delays_nobody;
mod a_deferred_job_comes_back;
mod a_killed_ingest_accepts_nothing_twice;
mod a_killed_node_loses_nothing;
mod a_killed_queue_loses_nothing;
mod a_lane_follows_the_living;
mod a_large_message_arrives_intact;
mod a_lost_reply_is_one_duplicate;
mod a_lost_worker_loses_no_job;
mod a_message_reaches_its_mailbox;
mod a_message_waits_for_its_time_and_can_be_cancelled;
mod a_poison_job_is_set_aside;
mod a_redis_that_dies_stops_nothing;
mod a_refused_message_queues_nothing;
mod a_repeated_call_is_one_message;
mod a_slow_provider_delays_no_other;
mod a_stopped_worker_sends_nothing_late;
mod a_worker_that_dies_unsettled_sends_nothing_twice;
mod accepted_means_synced;
mod another_tenants_message_is_not_found;
mod broker;
mod drained;
mod each_reply_decides_about_its_own_message;
mod jobs_that_come_together_are_committed_together;
mod jobs_that_wait_together_share_a_schedule;
mod limits_hold_whatever_becomes_of_redis;
mod mail_that_requires_tls_never_leaves_in_the_clear;
mod no_special_address_is_dialled;
mod no_string_smuggles_a_message;
mod odd_tls_neither_loses_nor_misleads;
mod sessions_keep_to_what_a_server_announces;
mod sigterm_drains_without_duplicates;
mod sigterm_ends_sessions_in_every_state;
mod the_api_describes_itself;
mod the_limits_fit_the_storage;
mod the_queue_sets_itself_up;

/// Built by cargo before these tests run.
const PROGRAM: &str = env!("CARGO_BIN_EXE_postrider-under-test");
