//! All metrics, by the part of the program that records them.

use super::{Counter, Description, Gauge, Histogram, Kind};

/// Buckets from half a millisecond to half a minute.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Buckets from a second to a quarter of a year.
const DELAYS: &[f64] = &[
    1.0,
    10.0,
    60.0,
    600.0,
    3_600.0,
    21_600.0,
    86_400.0,
    259_200.0,
    604_800.0,
    1_209_600.0,
    2_592_000.0,
    7_776_000.0,
];
const NUMBERS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0];
const TOKENS: &[f64] =
    &[16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0, 8_192.0, 16_384.0, 32_768.0];
const RATIOS: &[f64] = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
const ROUND_NUMBERS: &[f64] =
    &[0.0, 1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0, 10_000_000.0];

macro_rules! metrics {
    ($($section:literal { $($constant:ident: $handle:ident<$labels:literal> = $kind:expr, $name:literal, $unit:literal,
        [$($label:literal),*], $help:literal, $alert:literal;)* })*) => {
        $($(
            #[doc = $help]
            pub const $constant: $handle<$labels> = $handle::new($name, [$($label),*]);
        )*)*

        /// All metrics, by section of docs/metrics.md.
        pub const SECTIONS: &[(&str, &[Description])] = &[$(($section, &[$(Description {
            name: $name,
            kind: $kind,
            unit: $unit,
            labels: &[$($label),*],
            help: $help,
            alert: $alert,
        }),*])),*];
    };
}

metrics! {
    "Scoring" {
        EVENTS: Counter<0> = Kind::Counter, "aegis_events_consumed_total", "events", [],
            "Events read. Events that are read again after a rebalance or an aborted batch are counted again.",
            "no increase while producers send";
        ESCAPES_REPLACED: Counter<0> = Kind::Counter, "aegis_escapes_replaced_total", "escapes", [],
            "Escapes in JSON events that stand for no character, such as half of an emoji, and were read as U+FFFD.",
            "a jump: a producer cuts texts within a character, or somebody tries to evade moderation";
        DECISIONS: Counter<2> = Kind::Counter, "aegis_decisions_total", "decisions", ["policy", "action"],
            "Decisions committed, by action (`allow`, `block`, `review`). Decisions of aborted batches are not counted.",
            "the share of one action doubling within an hour";
        REVIEWS: Counter<2> = Kind::Counter, "aegis_review_requests_total", "requests", ["policy", "reason"],
            "Review requests committed, by the first reason. A draw (`near_threshold`, `audit`) is first only where no reason is certain.",
            "more than reviewers can take";
        REVIEW_DRAWS: Counter<2> = Kind::Counter, "aegis_review_draws_total", "decisions", ["policy", "draw"],
            "Decisions committed for which a draw came up (`near_threshold`, `audit`), also where the review has a certain reason.",
            "no `audit` for a day: nothing is measured";
        REVIEWS_THINNED: Counter<1> = Kind::Counter, "aegis_reviews_thinned_total", "requests", ["policy"],
            "Review requests for events near the threshold that the review budget has withheld.",
            "more than are requested: raise `review_budget`, or narrow `review_margin`";
        REVIEW_THINNING: Gauge<1> = Kind::Gauge, "aegis_review_thinning_ratio", "ratio", ["policy"],
            "The factor by which the review budget lowers the probability of requests near the threshold. 1: it does not.",
            "below .5 for a day";
        SHADOW_VOTES: Counter<3> = Kind::Counter, "aegis_shadow_votes_total", "votes", ["policy", "expert", "side"],
            "Shadow votes, by the side of the threshold: that of the decision (`same`), or the other one (`other`).",
            "";
        DEGRADED: Counter<1> = Kind::Counter, "aegis_degraded_decisions_total", "decisions", ["policy"],
            "Decisions committed for which an expert of the panel abstained although there was something to judge.",
            "more than 1 % of decisions";
        NOTHING_TO_JUDGE: Counter<1> = Kind::Counter, "aegis_nothing_to_judge_total", "decisions", ["policy"],
            "Decisions committed about events whose judged text is empty or invisible, such as tool calls and images.",
            "its share of decisions doubling within an hour: a producer may send its text elsewhere";
        HIDDEN_TEXT: Counter<2> = Kind::Counter, "aegis_hidden_text_total", "decisions", ["policy", "kind"],
            "Decisions committed about events with hidden text in the judged turn, by technique (`tag_characters`, `variation_selectors`, `invisible_characters`, `bidi_controls`, `styled_letters`).",
            "`tag_characters` or `variation_selectors` increasing: somebody hides instructions";
        LANGUAGES: Counter<2> = Kind::Counter, "aegis_decision_languages_total", "decisions", ["policy", "language"],
            "Decisions committed, by the language of the judged text (an ISO 639-1 code, or `unknown`).",
            "a language that no expert reads, for more than 1 % of decisions: add an expert that reads it";
        DISAGREEMENTS: Counter<1> = Kind::Counter, "aegis_disagreements_total", "decisions", ["policy"],
            "Decisions committed for which votes lie on both sides of 0.5.",
            "its share of decisions doubling within an hour";
        DEAD_LETTERS: Counter<2> = Kind::Counter, "aegis_dead_letters_total", "records", ["side", "reason"],
            "Dead letters committed, by source topic (`event`, `label`) and reason.",
            "any increase that lasts";
        TOMBSTONES: Counter<1> = Kind::Counter, "aegis_tombstones_total", "records", ["side"],
            "Records with a null value that were skipped and committed, by source topic (`event`, `label`).",
            "";
        PREDICTOR_OFFSET: Gauge<1> = Kind::Gauge, "aegis_predictor_offset", "messages", ["policy"],
            "Offset of the predictor in use, the same in every scorer; -1 while none is used.",
            "scorers that differ for a minute";
        PREDICTOR_AGE: Gauge<1> = Kind::Gauge, "aegis_predictor_age_seconds", "seconds", ["policy"],
            "Time since the predictor in use was published, by its record's timestamp; 0 while none is used.",
            "longer than labels normally take";
        PREDICTOR_CURRENT: Gauge<1> = Kind::Gauge, "aegis_predictor_current", "boolean", ["policy"],
            "1 if the newest published predictor and the pinned one can be used, or there is none; 0 if one of them cannot be used.",
            "0 for a minute";
        PREDICTOR_PINNED: Gauge<1> = Kind::Gauge, "aegis_predictor_pinned", "boolean", ["policy"],
            "1 if the predictor in use is one that a person has pinned or released; 0 if it is the newest, or the prior.",
            "scorers that differ for a minute";
        PREDICTOR_PIN_AGE: Gauge<1> = Kind::Gauge, "aegis_predictor_pin_age_seconds", "seconds", ["policy"],
            "Time since the predictor in use was pinned or released; 0 if none is.",
            "above 14 days, with a newer one waiting";
        PREDICTOR_ROUNDS_BEHIND: Gauge<1> = Kind::Gauge, "aegis_predictor_rounds_behind", "rounds", ["policy"],
            "Labelled rounds that the newest published predictor has beyond the one in use; 0 while the newest is in use.",
            "growing while a predictor is pinned";
        PREDICTOR_REJECTED: Counter<2> = Kind::Counter, "aegis_predictor_rejected_total", "predictors", ["policy", "reason"],
            "Published predictors that scoring cannot use, by reason: `Format` (of another version), `Learner` (it refuses the experts), `State`, or the error of reading the record.",
            "any increase";
        QUEUE_EVENTS: Gauge<0> = Kind::Gauge, "aegis_queue_events", "events", [],
            "Events read and not yet decided.",
            "at its limit for minutes";
        QUEUE_SECONDS: Histogram<0> = Kind::Histogram(SECONDS), "aegis_queue_seconds", "seconds", [],
            "Time from reading an event to the start of its experts.",
            "p99 above half of your latency objective";
        DECISION_SECONDS: Histogram<0> = Kind::Histogram(SECONDS), "aegis_decision_seconds", "seconds", [],
            "Time from reading an event to its decision.",
            "";
        END_TO_END_SECONDS: Histogram<0> = Kind::Histogram(SECONDS), "aegis_end_to_end_seconds", "seconds", [],
            "Time from an event's broker timestamp to the commit of its decision.",
            "p99 above your latency objective";
    }
    "Requests" {
        HTTP_REQUESTS: Counter<2> = Kind::Counter, "aegis_http_requests_total", "requests", ["endpoint", "outcome"],
            "Moderation requests over HTTP, by endpoint and outcome: `answered`, `invalid` (400, 404, 405, 413), `unauthorized` (401, 403), `limited` (429), `full` (503), `late` (504), `failed` (500).",
            "`full` or `late` above 1 % of all";
        HTTP_SECONDS: Histogram<1> = Kind::Histogram(SECONDS), "aegis_http_request_seconds", "seconds", ["endpoint"],
            "Time from the head of a moderation request to its answer.",
            "p99 above your gateway's time-out";
        HTTP_WAITING: Gauge<0> = Kind::Gauge, "aegis_http_waiting_texts", "texts", [],
            "Texts of requests that are accepted and not answered yet.",
            "at `http.moderation.queue` for a minute";
        HTTP_RECORDS: Counter<1> = Kind::Counter, "aegis_http_records_total", "records", ["outcome"],
            "Events of requests: written to the topic (`written`), written again because the brokers had not confirmed them (`repeated`), lost at the end of the process (`lost`), left out because the topic accepts no record of this size (`too_large`), and read by a scorer, which takes the decision that was answered (`taken`) or does not believe it and decides again: it has no `record_key_file` (`no_key`), another one (`signature`), or an older version (`unreadable`).",
            "`lost`, `too_large`, `no_key`, `signature` or `unreadable` increasing";
    }
    "Experts" {
        EXPERT_LOADED: Gauge<1> = Kind::Gauge, "aegis_expert_loaded", "boolean", ["expert"],
            "1 if the expert is loaded.",
            "0";
        PANEL_SHRUNK: Gauge<0> = Kind::Gauge, "aegis_panel_shrunk", "boolean", [],
            "1 if only the cheap experts are asked because of load; the others abstain with `overload`.",
            "1 for ten minutes";
        EXPERT_DOWN: Gauge<1> = Kind::Gauge, "aegis_expert_down", "boolean", ["expert"],
            "1 if the expert hung or kept failing and is not asked for a while; it abstains meanwhile.",
            "1 for five minutes";
        EXPERT_DISABLED: Gauge<1> = Kind::Gauge, "aegis_expert_disabled", "boolean", ["expert"],
            "1 if the expert abstains until the panel is loaded again (SIGHUP) or the process restarts, because its runs hang and cannot be stopped.",
            "1";
        VOTES: Counter<1> = Kind::Counter, "aegis_votes_total", "votes", ["expert"],
            "Votes, including shadow votes. Votes on an event that is decided again are counted again.",
            "no increase while events arrive";
        ABSTENTIONS: Counter<2> = Kind::Counter, "aegis_abstentions_total", "abstentions", ["expert", "reason"],
            "Abstentions, by reason.",
            "`failed`, `timed_out`, `not_finite`, `wrong_shape` or `out_of_memory` increasing";
        DEFERRED: Counter<2> = Kind::Counter, "aegis_deferred_total", "events", ["expert", "outcome"],
            "Events with an expert that is asked only when its vote could change the decision: it could (`asked`), a draw selected it in any case (`explored`), or it was not asked (`not_needed`).",
            "`asked` more than a third of all: it costs much more than it would have to";
        EXPERT_SECONDS: Histogram<1> = Kind::Histogram(SECONDS), "aegis_expert_seconds", "seconds", ["expert"],
            "Duration of one run of an expert on one batch.",
            "p99 near the expert's timeout";
        TOKENIZE_SECONDS: Histogram<0> = Kind::Histogram(SECONDS), "aegis_tokenize_seconds", "seconds", [],
            "Duration of tokenizing one batch.",
            "";
        BATCH_EVENTS: Histogram<0> = Kind::Histogram(NUMBERS), "aegis_batch_events", "events", [],
            "Events in a batch.",
            "";
        BATCH_TOKENS: Histogram<0> = Kind::Histogram(TOKENS), "aegis_batch_tokens", "tokens", [],
            "Padded tokens of a batch.",
            "";
        PADDING_RATIO: Histogram<0> = Kind::Histogram(RATIOS), "aegis_batch_padding_ratio", "ratio", [],
            "Real tokens of a batch divided by its padded tokens; 1 is optimal.",
            "median below 0.7";
        TRUNCATED: Counter<1> = Kind::Counter, "aegis_truncated_texts_total", "texts", ["expert"],
            "Texts that an expert read only in part.",
            "more than you accept";
        CACHED: Counter<1> = Kind::Counter, "aegis_cached_votes_total", "votes", ["expert"],
            "Votes reused from an equal text, without a run.",
            "";
    }
    "Kafka" {
        TRANSACTIONS: Counter<2> = Kind::Counter, "aegis_transactions_total", "transactions", ["role", "outcome"],
            "Transactions that ended, by role (`score`, `learn`) and outcome (`committed`, `aborted`, `fenced`).",
            "`aborted` increasing for minutes; any `fenced` outside of a deployment";
        TRANSACTION_RECORDS: Histogram<1> = Kind::Histogram(NUMBERS), "aegis_transaction_records", "records", ["role"],
            "Records consumed in a transaction.",
            "";
        COMMIT_SECONDS: Histogram<1> = Kind::Histogram(SECONDS), "aegis_commit_seconds", "seconds", ["role"],
            "Duration of a commit to Kafka.",
            "p99 above a second";
        COMMIT_STALLED: Gauge<1> = Kind::Gauge, "aegis_commit_stalled_seconds", "seconds", ["role"],
            "Time for which the longest-waiting partition has had uncommitted records; 0 while none wait.",
            "above a minute";
        KAFKA_ERRORS: Counter<2> = Kind::Counter, "aegis_kafka_errors_total", "errors", ["role", "error"],
            "Errors that aborted a transaction, by name.",
            "increasing for minutes";
        PARTITIONS: Gauge<1> = Kind::Gauge, "aegis_partitions_assigned", "partitions", ["role"],
            "Partitions assigned to this process.",
            "0 in every process of a role";
        LAG: Gauge<3> = Kind::Gauge, "kafka_consumergroup_lag", "messages", ["consumergroup", "topic", "partition"],
            "Messages not yet read, under the name that lag exporters use.",
            "growing for ten minutes";
        RECORDS_LOST: Counter<2> = Kind::Counter, "aegis_records_lost_total", "messages", ["topic", "partition"],
            "Offsets that the brokers deleted before this group had read them: events or labels, and transaction markers. They are counted again if the process restarts before its next commit on the partition.",
            "any increase by more than one";
        LAG_SECONDS: Gauge<3> = Kind::Gauge, "kafka_consumergroup_lag_seconds", "seconds", ["consumergroup", "topic", "partition"],
            "Age of the oldest message read without a committed outcome; 0 if there is none.",
            "above your latency objective";
    }
    "Learning" {
        LABELS: Counter<1> = Kind::Counter, "aegis_labels_total", "labels", ["outcome"],
            "Labels, by outcome (`accepted`, `waiting`, `too_late`, `waited_accepted`, `waited_too_late`, `expired`, `duplicate`, `vanished`: the decision is no longer in its topic; `left_out`: a record without a label by `label_fields.skip_if`).",
            "`too_late` or `waiting` above a tenth of all; any `vanished`";
        DECISIONS_SKIPPED: Counter<1> = Kind::Counter, "aegis_decisions_skipped_total", "decisions", ["reason"],
            "Decisions that learn cannot index, so that their labels wait: those that cannot be decoded, by reason, and offsets that retention deleted before learn had read them (`Deleted`).",
            "any increase";
        LABEL_DELAY: Histogram<1> = Kind::Histogram(DELAYS), "aegis_label_delay_seconds", "seconds", ["policy"],
            "Time from an event's round time to its label's broker timestamp.",
            "p99 near the horizon";
        CORRECTIONS: Counter<2> = Kind::Counter, "aegis_label_corrections_total", "labels", ["policy", "kind"],
            "Accepted labels that refer to an earlier one, by effect (`corrects`, `retracts`).",
            "more than a tenth of all labels: a reviewer or a guideline is wrong";
        LABELS_WAITING: Gauge<1> = Kind::Gauge, "aegis_labels_waiting", "labels", ["policy"],
            "Labels whose decision is not known yet.",
            "growing for an hour";
        ROUNDS: Gauge<1> = Kind::Gauge, "aegis_rounds", "rounds", ["policy"],
            "Rounds in the learner's state.",
            "no increase while labels arrive";
        FOLD_SECONDS: Histogram<1> = Kind::Histogram(SECONDS), "aegis_fold_seconds", "seconds", ["policy"],
            "Duration of one step of folding, which is at most some tens of thousands of rounds.",
            "p99 above ten seconds";
        FOLD_REWIND: Histogram<1> = Kind::Histogram(ROUND_NUMBERS), "aegis_fold_rewind_rounds", "rounds", ["policy"],
            "Rounds to fold in one step, including those repeated because of late labels.",
            "";
        WEIGHT: Gauge<2> = Kind::Gauge, "aegis_expert_weight", "ratio", ["policy", "expert"],
            "Share of the aggregation's mass, also of each inner learner.",
            "an expert that you rely on falling below 0.01";
        REGRET: Gauge<1> = Kind::Gauge, "aegis_policy_regret", "loss", ["policy"],
            "Loss of the ensemble minus that of the best expert in hindsight.",
            "above `aegis_policy_regret_bound`";
        REGRET_BOUND: Gauge<1> = Kind::Gauge, "aegis_policy_regret_bound", "loss", ["policy"],
            "Upper bound of the regret by theory.",
            "";
        BRIER: Gauge<1> = Kind::Gauge, "aegis_policy_brier", "loss", ["policy"],
            "Mean squared error of p over all rounds, measured while folding.",
            "rising by a fifth in a week";
        CALIBRATION: Gauge<1> = Kind::Gauge, "aegis_policy_calibration_error", "ratio", ["policy"],
            "Mean difference between p and the share of unsafe labels, over tenths of p, measured while folding.",
            "above 0.1 once there are a thousand rounds";
        READING_GAIN: Gauge<1> = Kind::Gauge, "aegis_policy_reading_gain", "loss", ["policy"],
            "Gain of the members that read text: the mean squared error of p without them minus that with them, over the rounds with features, measured while folding.",
            "below 0 once there are a thousand such rounds";
        READING_ROUNDS: Gauge<1> = Kind::Gauge, "aegis_policy_reading_rounds", "rounds", ["policy"],
            "Rounds with features for the members that read text; 0 for a learner without such members.",
            "no increase while `aegis_rounds` grows: an encoder was changed, or features are turned off";
        MISTAKES: Gauge<2> = Kind::Gauge, "aegis_policy_mistakes", "rounds", ["policy", "by"],
            "Rounds in which the prediction and the human verdict lie on different sides of 0.5, measured while folding: of the `ensemble`, and of the plain `majority` of the same votes.",
            "the ensemble above the majority once there are a thousand rounds";
        EXPERT_MISTAKES: Gauge<2> = Kind::Gauge, "aegis_expert_mistakes", "rounds", ["policy", "expert"],
            "Rounds in which the expert's vote and the human verdict lie on different sides of 0.5.",
            "";
        EXPERT_ROUNDS: Gauge<2> = Kind::Gauge, "aegis_expert_awake_rounds", "rounds", ["policy", "expert"],
            "Rounds in which the expert voted.",
            "";
        EXPERT_BRIER: Gauge<2> = Kind::Gauge, "aegis_expert_brier", "loss", ["policy", "expert"],
            "Mean squared error of an expert's votes, including shadow votes, over the newest 10,000 labelled rounds.",
            "";
        PREDICTORS: Counter<1> = Kind::Counter, "aegis_predictors_published_total", "predictors", ["policy"],
            "Predictors published.",
            "";
        ACTIVE: Gauge<0> = Kind::Gauge, "aegis_learner_active", "boolean", [],
            "1 if this process is the active learner, 0 on standby.",
            "the sum over all processes not being 1 for a minute";
    }
    "Report" {
        REPORT_CURRENT: Gauge<0> = Kind::Gauge, "aegis_report_current", "boolean", [],
            "1 if the figures of this section are kept up to date, 0 before the first and after an error.",
            "0 for half an hour";
        REPORT_FAILURES: Counter<1> = Kind::Counter, "aegis_report_failures_total", "errors", ["reason"],
            "Errors after which the figures were computed again from the topics. Learning goes on meanwhile.",
            "any increase";
        REPORT_ESTIMATE: Gauge<3> = Kind::Gauge, "aegis_report_estimate", "ratio", ["policy", "figure", "bound"],
            "Estimates over `report.window_days` (`prevalence`, `precision`, `recall`, `false_positive_rate`, `error_rate`): the `value`, and the `low` and `high` end of its 95 % interval. NaN without a label.",
            "`high` of `recall` below `aegis_report_recall_target`";
        REPORT_RECALL_TARGET: Gauge<1> = Kind::Gauge, "aegis_report_recall_target", "ratio", ["policy"],
            "`recall_target` of the policy; 0 if it has none.",
            "";
        REPORT_DECISIONS: Gauge<1> = Kind::Gauge, "aegis_report_decisions", "decisions", ["policy"],
            "Decisions behind the estimates.",
            "";
        REPORT_REQUESTS: Gauge<1> = Kind::Gauge, "aegis_report_requests", "requests", ["policy"],
            "Review requests among them.",
            "";
        REPORT_LABELS: Gauge<1> = Kind::Gauge, "aegis_report_labels", "labels", ["policy"],
            "Requests among these that a review answered. Their share is the response rate.",
            "less than a tenth of the requests of a week ago";
        REPORT_ALARM: Gauge<2> = Kind::Gauge, "aegis_report_alarm", "boolean", ["policy", "watched"],
            "1 for a day after the mean of a watched value has changed: `block_rate`, `mean_p`, `disagreement` of the panel, or `expert_error` on audited events.",
            "1";
        REPORT_ALARMS: Counter<3> = Kind::Counter, "aegis_report_alarms_total", "alarms", ["policy", "watched", "expert"],
            "Changes of the mean of a watched value; the expert is empty for values of the ensemble.",
            "";
    }
    "Reviewing" {
        REVIEW_OPEN: Gauge<1> = Kind::Gauge, "aegis_review_open_requests", "requests", ["reason"],
            "Review requests that are open in the console's queue, by their first reason.",
            "more than reviewers can take";
        REVIEW_OLDEST_AGE: Gauge<0> = Kind::Gauge, "aegis_review_oldest_age_seconds", "seconds", [],
            "Age of the oldest open review request; 0 if none is open.",
            "longer than half of the retention of events, whose texts reviewers need";
        REVIEW_CLAIMS: Gauge<0> = Kind::Gauge, "aegis_review_claims", "claims", [],
            "Review requests that a reviewer has at the moment.",
            "";
        REVIEW_ANSWERED: Counter<1> = Kind::Counter, "aegis_review_answered_total", "labels", ["verdict"],
            "Answers given in this console and confirmed by the brokers, by verdict (`safe`, `unsafe`, `needs_caution`).",
            "";
        REVIEW_SKIPPED: Counter<0> = Kind::Counter, "aegis_review_skipped_total", "requests", [],
            "Review requests that a reviewer skipped.",
            "";
        REVIEW_CLAIMS_EXPIRED: Counter<0> = Kind::Counter, "aegis_review_claims_expired_total", "claims", [],
            "Claims that ended because their reviewer was not active.",
            "";
        REVIEW_EXPIRED: Counter<0> = Kind::Counter, "aegis_review_expired_total", "requests", [],
            "Review requests that were closed without an answer, because retention had deleted their text.",
            "any increase: reviewers are too slow for the retention of events";
        REVIEW_DROPPED: Counter<1> = Kind::Counter, "aegis_review_dropped_total", "records", ["kind"],
            "What a full queue has dropped: open audits (`audit`), other open requests (`request`), requests with a reference answer (`gold`), and labels of an event that has more than 64 (`label`).",
            "any increase of `audit`: estimates miss these answers";
        REVIEW_UNREADABLE: Counter<1> = Kind::Counter, "aegis_review_unreadable_total", "records", ["topic"],
            "Records that the console's queue could not read, or whose policy it does not have, by topic (`requests`, `labels`, `ledger`).",
            "any increase of `requests`";
    }
    "Store" {
        LEDGER_OFFSET: Gauge<0> = Kind::Gauge, "aegis_ledger_offset", "messages", [],
            "Offset of the ledger topic up to which the state is built.",
            "";
        LEDGER_RECORDS: Gauge<0> = Kind::Gauge, "aegis_ledger_records", "records", [],
            "Ledger records on disk.",
            "";
        INDEX_ENTRIES: Gauge<0> = Kind::Gauge, "aegis_index_entries", "entries", [],
            "Decisions in the index.",
            "";
        INDEX_RUNS: Gauge<0> = Kind::Gauge, "aegis_index_runs", "runs", [],
            "Sorted runs of the index.",
            "";
        STORE_BYTES: Gauge<0> = Kind::Gauge, "aegis_store_bytes", "bytes", [],
            "Size of the store on disk.",
            "near the volume's size";
        STORE_SECONDS: Histogram<0> = Kind::Histogram(SECONDS), "aegis_store_commit_seconds", "seconds", [],
            "Duration of writing one batch to the store.",
            "p99 above a second";
        STORE_REBUILDS: Counter<0> = Kind::Counter, "aegis_store_rebuilds_total", "rebuilds", [],
            "Times that the store was damaged and was built again from the topics.",
            "any increase: the disk or an abrupt stop";
        STORE_ERRORS: Counter<1> = Kind::Counter, "aegis_store_errors_total", "errors", ["error"],
            "Errors of the store, by name.",
            "any increase";
    }
    "Process" {
        CONDITION: Gauge<1> = Kind::Gauge, "aegis_condition", "boolean", ["condition"],
            "1 if a condition of readiness holds; see `/readyz?verbose`.",
            "0 for five minutes";
        POLICY_RELOADS: Counter<1> = Kind::Counter, "aegis_policy_reloads_total", "reloads", ["outcome"],
            "Detected changes of the policies file, by outcome (`taken`, `refused`).",
            "any `refused`";
        POLICIES_CURRENT: Gauge<0> = Kind::Gauge, "aegis_policies_current", "boolean", [],
            "1 if the policies in force are those of the file, 0 if the file was refused and older ones are in force.",
            "0 for a minute";
        PANEL_RELOADS: Counter<1> = Kind::Counter, "aegis_panel_reloads_total", "reloads", ["outcome"],
            "Detected changes of `experts.shadow`, `experts.voting` and `experts.only`, by outcome (`taken`, `refused`).",
            "any `refused`";
        PANEL_CURRENT: Gauge<0> = Kind::Gauge, "aegis_panel_current", "boolean", [],
            "1 if the panel in force is that of the configuration, 0 if the change was refused and the previous panel is in force.",
            "0 for a minute";
        OPEN_FDS: Gauge<0> = Kind::Gauge, "process_open_fds", "descriptors", [],
            "File descriptors in use: connections, files, pipes.",
            "above 0.8 of `process_max_fds` for five minutes";
        MAX_FDS: Gauge<0> = Kind::Gauge, "process_max_fds", "descriptors", [],
            "Limit on file descriptors of the process.",
            "";
        SPANS: Counter<1> = Kind::Counter, "aegis_spans_total", "spans", ["outcome"],
            "Spans of traced events, requests and labels, by outcome: `sent`, or dropped because the queue was `full`, the collector did not accept them (`failed`) or the process ended first (`stopped`).",
            "`full` or `failed` increasing for ten minutes";
        BUILD_INFO: Gauge<1> = Kind::Gauge, "aegis_build_info", "boolean", ["version"],
            "Always 1; the label is the version of the program.",
            "two versions for longer than a deployment takes";
    }
}
