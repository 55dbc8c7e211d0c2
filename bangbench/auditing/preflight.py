"""Before any attack: whether model and images are fit to be attacked, and gradients are what they should be."""

from __future__ import annotations

from collections.abc import Callable

from bangbench.auditing import preflight_answers as answers
from bangbench.auditing import preflight_gradients as with_gradients
from bangbench.auditing import preflight_inputs as inputs
from bangbench.auditing import preflight_outputs as outputs
from bangbench.auditing.probe import untouched
from bangbench.auditing.slopes import Slopes
from bangbench.auditing.subject import Subject
from bangbench.store.audits import Check

#: What keeps an image from being answered as it was before.
_MOVING = {
    "random-outputs": "the forward pass is random",
    "depends-on-history": "an answer depends on those before it",
    "batch-dependent": "an image's answer depends on its batch",
}


def preflight(subject: Subject) -> list[Check]:
    """Return one check for each reason of the group "preflight", in their order.

    The model's modes and buffers and all global random states are put back. Nothing that a model does makes this
    raise: a check that cannot be made says so.
    """

    def on_its_own(check: Callable[[Subject], Check]) -> Check:
        with untouched(subject):
            return check(subject)

    about_inputs = [on_its_own(check) for check in (inputs.input_scale, inputs.channel_order)]
    about_answers = [on_its_own(check) for check in (answers.chance_accuracy, answers.constant_predictions)]
    mode, probabilities, random, history = (
        on_its_own(check)
        for check in (outputs.train_mode, outputs.probabilities, outputs.random_outputs, outputs.depends_on_history)
    )
    batch = on_its_own(lambda some: outputs.batch_dependent(some, _moving_target(random, history)))
    about_outputs = [mode, probabilities, random, history, batch, on_its_own(outputs.bad_outputs)]
    target = _moving_target(random, history, batch)
    by_heart = on_its_own(answers.knows_test_images)
    problem = None if target is None else f"{target}, so that differences say nothing"
    return [*about_inputs, *about_answers, *about_outputs, by_heart, *_about_gradients(subject, problem)]


def _moving_target(*checks: Check) -> str | None:
    """Return why the same image is answered differently, if so."""
    return next((_MOVING[check.code] for check in checks if check.outcome == "suspect"), None)


def _about_gradients(subject: Subject, problem: str | None) -> list[Check]:
    """problem: why differences between answers say nothing, if so."""
    with untouched(subject):
        reaches = with_gradients.no_gradient(subject)
    slopes: Slopes | str = problem or ""
    if reaches.outcome == "masked":
        slopes = "no gradient reaches the image"
    elif problem is None:
        with untouched(subject):
            slopes = with_gradients.slopes_of(subject)
    with untouched(subject):
        return [
            reaches,
            with_gradients.wrong_gradient(slopes),
            with_gradients.shattered_gradient(slopes),
            with_gradients.inner_gradient(subject),
            with_gradients.rough_loss(subject, problem),
        ]
