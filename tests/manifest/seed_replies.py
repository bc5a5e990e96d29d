"""Status and predictions: what the code of the user's document sends and reads."""

from tests.manifest.files import (
    ANSWER,
    ARGS,
    CALIBRATING,
    CHAOS,
    KILL,
    LIFE,
    LOCAL,
    MEMORY,
    METRICS,
    PREDICT,
    REAL,
    RECORD,
    RECOVER,
    SERVED,
    USE,
)
from tests.manifest.promise import Section

TRAINING = Section("seed: Distributed Training Coordinator")
LIVE = Section("seed: Live Trading with Distributed Predictions")
HEALTH = Section("seed: Neural Cluster Health Monitoring")

RECOVERED = RECOVER / "the_call_of_a_monitor_brings_a_failed_slot_back_with_the_committed_weights"
MEASURED = USE / "numbers_that_nobody_measured_are_null_and_appear_when_they_are"
COUNTED = USE / "a_status_counts_nodes_bytes_and_time_without_mixing_units"
ANSWERED = USE / "each_aggregation_answers_with_every_number_that_clients_read"
SHAPES = USE / "each_record_of_the_document_is_predicted_for_as_json_text"
FAILED = KILL / "a_worker_killed_in_training_is_missed_named_and_replaceable"

STATUS_CALL = (
    TRAINING.held("seed.status.cluster_id", "A status is of the cluster it names.", MEASURED),
    TRAINING.held(
        "seed.status.reply.active_nodes",
        "active_nodes counts the healthy nodes.",
        COUNTED,
        RECOVERED,
    ),
    HEALTH.held(
        "seed.status.reply.total_nodes",
        "total_nodes counts the slots of the cluster.",
        COUNTED,
        RECOVERED,
    ),
    HEALTH.held(
        "seed.status.reply.failed_nodes",
        "failed_nodes counts the slots whose node is gone.",
        RECOVERED,
        FAILED,
    ),
    TRAINING.held(
        "seed.status.reply.training_progress",
        "training_progress is the percentage of rounds done, and 100 when the training ended well.",
        LIFE / "progress_is_the_share_of_committed_rounds_and_never_falls",
        RECORD / "only_what_ended_well_is_at_100_percent",
        CHAOS / "what_must_always_hold_holds",
    ),
    TRAINING.held(
        "seed.status.reply.global_accuracy",
        "global_accuracy is the committed model's on rows that no node trained on.",
        SERVED / "every_reported_number_is_that_of_the_replies",
        MEASURED,
        LOCAL / "labels_without_meaning_are_not_learnt",
        REAL / "a_trained_cluster_shows_evidence_and_beats_the_baseline",
    ),
    TRAINING.held(
        "seed.status.reply.global_loss", "global_loss is the loss on the same rows.", MEASURED
    ),
    TRAINING.held(
        "seed.status.reply.communication_bytes",
        "communication_bytes counts what went over the links with nodes.",
        COUNTED,
        LOCAL / "communication_is_what_an_independent_count_gives",
        METRICS / "every_byte_of_a_link_is_counted_once_under_who_claims_it_first",
    ),
    TRAINING.held(
        "seed.status.reply.communication_mb",
        "The same number in megabytes stands beside it, since the document prints bytes as MB.",
        COUNTED,
        LOCAL / "communication_is_what_an_independent_count_gives",
    ),
    HEALTH.held(
        "seed.status.reply.avg_latency",
        "avg_latency is the mean duration of a prediction in milliseconds.",
        MEASURED,
        METRICS / "a_window_forgets_after_five_minutes",
        PREDICT / "a_wrong_record_is_refused_and_the_next_one_answered",
    ),
    HEALTH.held(
        "seed.status.reply.error_rate",
        "error_rate is the share of failed calls to nodes, between 0 and 1.",
        MEASURED,
        METRICS / "the_error_rate_is_the_share_of_failed_calls",
    ),
    HEALTH.held(
        "seed.status.reply.memory_usage",
        "memory_usage is a percentage of the nodes' limits.",
        MEMORY / "memory_is_the_sum_of_what_was_read_and_null_unless_every_node_was",
    ),
    HEALTH.held(
        "seed.status.reply.nodes",
        "Each node tells healthy, id, role, model_size and capabilities, which is what a recovery sends.",
        COUNTED,
        RECOVERED,
        FAILED,
    ),
)

PREDICT_CALL = (
    LIVE.held("seed.predict.cluster_id", "A prediction asks the cluster it names.", ANSWERED),
    LIVE.held(
        "seed.predict.input_data",
        "input_data is JSON text of one record or of a list of records.",
        SHAPES,
        ARGS / "input_data_arrives_as_sent_as_text_or_as_a_value",
    ),
    LIVE.held(
        "seed.predict.aggregation", "aggregation says how the answers are combined.", ANSWERED
    ),
    LIVE.held(
        "seed.predict.reply.prediction",
        "prediction is one number for one record, and never the 0 that the document takes for nothing.",
        ANSWERED,
        SHAPES,
        ANSWER / "a_probability_is_never_quite_0_or_1",
    ),
    TRAINING.held(
        "seed.predict.reply.predictions",
        "predictions has one entry per record.",
        ANSWERED,
        SHAPES,
        ANSWER / "a_list_is_answered_by_lists_even_of_one",
    ),
    LIVE.held(
        "seed.predict.reply.confidence",
        "confidence is the probability that the decision is right.",
        ANSWERED,
        ANSWER / "the_mean_of_three_nodes",
        CALIBRATING / "exaggeration_is_taken_back_where_it_helps",
    ),
    LIVE.held(
        "seed.predict.reply.consensus",
        "consensus is the share of the expected nodes that decide alike.",
        ANSWERED,
        ANSWER / "nodes_that_did_not_answer_lower_consensus_and_confidence",
    ),
    LIVE.held(
        "seed.predict.reply.node_agreement",
        "node_agreement falls with the distance between the nodes' answers.",
        ANSWERED,
        ANSWER / "the_mean_of_three_nodes",
    ),
    LIVE.held(
        "seed.predict.reply.node_predictions",
        "node_predictions has a number per node for one record, and a list per node for a list.",
        ANSWERED,
        SHAPES,
        ANSWER / "a_list_is_answered_by_lists_even_of_one",
    ),
)

PROMISES = (*STATUS_CALL, *PREDICT_CALL)
