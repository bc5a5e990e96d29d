"""Learning after a training: outcomes of predictions and what comes of them."""

from tests.manifest.files import ADAPTER_OUTCOMES, DRIFT, HEDGE, LEARNING, OUTCOMES, VERSIONS
from tests.manifest.promise import Section

PREDICTION = Section("contract: section 1.6")
STATUS = Section("contract: section 1.5")
TRAIN = Section("contract: section 1.4")
INIT = Section("contract: section 1.1")

WRONG = OUTCOMES / "a_node_that_is_wrong_loses_its_weight_and_predictions_change"
UNSEEN = OUTCOMES / "an_outcome_never_reaches_the_prediction_that_it_belongs_to"
LASTS = OUTCOMES / "outcomes_and_what_they_taught_survive_the_server"
LATER = OUTCOMES / "the_outcome_of_an_earlier_prediction_is_recorded_once"
KEPT = VERSIONS / "the_last_versions_and_the_best_are_kept_with_what_was_measured_of_them"
BACK = VERSIONS / "a_restored_version_answers_and_reports_what_it_did"
RECOVERS = LEARNING / "labels_that_flip_are_found_once_and_accuracy_recovers"
REFUSED = OUTCOMES / "what_cannot_be_recorded_is_said_and_costs_no_prediction"

PROMISES = (
    PREDICTION.held(
        "contract.predict.outcomes",
        "outcomes are those of earlier predictions, by prediction_id, and count once.",
        LATER,
        ADAPTER_OUTCOMES
        / "an_outcome_is_a_class_of_the_model_or_a_direction_where_its_classes_are",
    ),
    PREDICTION.held(
        "contract.predict.reply.feedback_recorded",
        "feedback_recorded counts the outcomes that are durable, and a warning says why others are not.",
        UNSEEN,
        REFUSED,
        OUTCOMES / "below_its_level_of_autonomy_nothing_is_recorded_unasked",
        OUTCOMES / "an_outcome_that_was_not_recorded_can_be_sent_later",
        OUTCOMES / "a_client_that_gives_up_during_the_write_costs_no_later_outcome",
    ),
    PREDICTION.held(
        "contract.predict.reply.weights_source",
        "weights_source says where the weights of an answer come from.",
        WRONG,
        LASTS,
    ),
    PREDICTION.held(
        "contract.predict.reply.weights_outcomes",
        "weights_outcomes counts the outcomes from which the weights of this version were learnt.",
        WRONG,
        LASTS,
        HEDGE / "the_bound_holds_against_an_adversary_that_punishes_whoever_leads",
        OUTCOMES / "the_same_model_under_a_new_number_keeps_what_it_learnt",
    ),
    PREDICTION.held(
        "contract.predict.rule.outcomes-never-input",
        "An outcome in a record never reaches the network that predicts it.",
        UNSEEN,
        ADAPTER_OUTCOMES / "records_keep_their_outcomes_apart_from_their_input",
    ),
    PREDICTION.held(
        "contract.predict.rule.learnt-weights-bounded",
        "Under byzantine no learnt weight lets one node decide.",
        OUTCOMES / "under_byzantine_a_liar_whom_outcomes_praise_does_not_decide",
    ),
    STATUS.held(
        "contract.status.reply.feedback",
        "feedback counts recorded outcomes and has the weights that they made.",
        WRONG,
        LASTS,
    ),
    STATUS.held(
        "contract.status.reply.versions",
        "versions lists what can be put in force again, with what was measured of each.",
        KEPT,
        BACK,
    ),
    STATUS.held(
        "contract.detail.versions",
        "The detail versions lists the kept versions and no nodes.",
        KEPT,
    ),
    STATUS.held(
        "contract.status.rule.drift",
        "Drift of errors is found once and soon, without false alarms, and drifted inputs are named.",
        RECOVERS,
        LEARNING / "inputs_that_move_are_found_and_named",
        DRIFT / "ten_thousand_rows_without_drift_raise_less_than_one_alarm_on_average",
        DRIFT / "flipped_labels_are_found_once_and_soon",
    ),
    TRAIN.held(
        "contract.train.rule.feedback",
        "The data set feedback is the recorded outcomes; what learns from them answers only if it is better.",
        RECOVERS,
        LEARNING / "a_model_that_is_no_better_is_refused_and_the_former_one_answers_on",
        LEARNING / "the_model_in_force_answers_until_the_new_one_is_admitted",
        LEARNING / "former_rows_are_half_of_what_it_learns_from_and_stay_to_be_replayed",
        LEARNING / "a_training_on_outcomes_goes_on_when_its_server_comes_back",
        LEARNING / "without_enough_outcomes_nothing_is_learnt",
    ),
    INIT.held(
        "contract.init.version",
        "With restore, version puts a kept version in force again, and all that is reported is of it.",
        BACK,
        VERSIONS / "a_restored_version_survives_the_server",
        VERSIONS / "an_ended_cluster_comes_back_with_a_version_of_its_past",
        VERSIONS / "what_cannot_be_restored_is_refused_and_changes_nothing",
        VERSIONS / "a_version_that_was_altered_is_refused_and_the_present_one_answers_on",
    ),
)
