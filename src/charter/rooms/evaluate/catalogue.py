"""Every evaluation by name, and the suites that a recipe may name instead. A new task is one line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from charter.ground.artifact.errors import CharterError
from charter.ground.measure.derived import OF_REFUSALS
from charter.ground.measure.metric import Metric
from charter.ground.measure.metrics import OF_TRIPLES
from charter.ground.settings.problems import near, suggest
from charter.rooms.evaluate.task import Task
from charter.rooms.evaluate.tasks import (
    acceptable_use,
    adherence,
    agieval,
    arc,
    attacks,
    bbq,
    bbq_ways,
    behaviours,
    decisions,
    essay_grader,
    even_handedness,
    facts,
    gre_quant,
    gre_verbal,
    gre_writing,
    gsm8k,
    harm_scores,
    harmlessness,
    helpful,
    hhh,
    humaneval,
    invented,
    known,
    labelled,
    lookalikes,
    mbe,
    missing_context,
    mmlu,
    mmlu_plain,
    occupations,
    position,
    premises,
    principles,
    quality,
    quiz,
    race,
    rater_check,
    recall,
    requests,
    revisions,
    rm_bench,
    security,
    stated_shown,
    support,
    sure,
    sycophancy,
    taught,
    text,
    topic_requests,
    topic_scripts,
    translation,
    triviaqa,
    truthfulqa,
    usmle,
    winogender,
)

# Replies of an assistant, judged by a frozen grader.
ASSISTANT = (harmlessness.TASK, lookalikes.TASK, helpful.TASK, hhh.TASK, text.TASK, revisions.TASK)
# The capability and bias evaluations of the Claude 2 card, in the order of its tables.
BATTERY = (
    bbq.TASK,
    bbq_ways.SAMPLED_TASK,
    winogender.TASK,
    occupations.TASK,
    decisions.TASK,
    truthfulqa.TASK,
    mmlu.TASK,
    mmlu_plain.TASK,
    arc.TASK,
    triviaqa.TASK,
    gsm8k.TASK,
    humaneval.TASK,
    race.TASK,
    quality.TASK,
    position.TASK,
    recall.TASK,
    translation.TASK,
)
# The shapes of the card's exams.
EXAMS = (gre_verbal.TASK, gre_quant.TASK, gre_writing.TASK, mbe.TASK, usmle.TASK)
OTHERS = (
    requests.TASK,
    attacks.TASK,
    rater_check.TASK,
    harm_scores.TASK,
    even_handedness.TASK,
    *adherence.TASKS,
    facts.TASK,
    quiz.TASK,
    acceptable_use.TASK,
    essay_grader.TASK,
)
# Answers that are right, wrong or declined.
HONESTY = (known.TASK, invented.TASK, taught.TASK, premises.TASK, missing_context.TASK, sure.TASK, support.TASK)
# Model-written evaluations: what a model says of itself, whether it says what its user thinks, and what it does.
WRITTEN = (behaviours.TASK, sycophancy.TASK, stated_shown.TASK)
# Misinformation, hate, child safety.
TOPICS = (topic_requests.TASK, topic_scripts.TASK)
# Willingness, and a proxy of capability, in columns of their own.
SECURITY = (security.TASK, mmlu_plain.TASK)
# The judges themselves: against labels of people, and against pairs that differ in substance and in style.
JUDGES = (labelled.TASK, rm_bench.TASK, principles.TASK)
TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        *(*ASSISTANT, *OTHERS, *BATTERY, *bbq_ways.TASKS),
        *(*EXAMS, *agieval.TASKS, *HONESTY, *WRITTEN, *TOPICS, security.TASK, *JUDGES),
    )
}
SUITES: Mapping[str, tuple[str, ...]] = {
    "assistant": tuple(task.name for task in ASSISTANT),
    "replies": tuple(task.name for task in (*ASSISTANT[:3], facts.TASK, quiz.TASK)),
    "battery": tuple(task.name for task in BATTERY),
    "bbq_ways": tuple(task.name for task in (bbq.TASK, *bbq_ways.TASKS)),
    "exams": tuple(task.name for task in EXAMS),
    "honesty": tuple(task.name for task in HONESTY),
    "agieval": tuple(task.name for task in agieval.TASKS),
    "written": tuple(task.name for task in WRITTEN),
    "national_security": tuple(task.name for task in SECURITY),
    # with what their corrected rates need
    "topics": tuple(task.name for task in (*TOPICS, labelled.TASK)),
}
METRICS: tuple[Metric, ...] = (
    *(metric for task in TASKS.values() for metric in task.numbers),
    *(replace(metric, task="fitness") for metric in OF_TRIPLES),
    *OF_REFUSALS,
)


def expand_suites(names: Iterable[str]) -> tuple[str, ...]:
    """Names of tasks, each once, with suites replaced by their tasks. Raises CharterError for an unknown name."""
    tasks: dict[str, None] = {}
    for name in names:
        if name not in TASKS and name not in SUITES:
            guess = near(name, [*TASKS, *SUITES])
            hint = f"did you mean {guess}? `charter explain` lists all" if guess else suggest("", [*TASKS, *SUITES])
            raise CharterError(f"there is no evaluation {name!r}; {hint}")
        tasks |= dict.fromkeys(SUITES.get(name, (name,)))
    return tuple(tasks)
