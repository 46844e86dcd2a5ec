"""The order of the page: what stands in front, and the five parts behind it. A section that has nothing to say is left
out."""

from __future__ import annotations

SUMMARY, STAGES, SAMPLES, LIMITS = "summary", "stages", "samples", "limits"
FRONT = (
    (SUMMARY, "Summary"),
    (STAGES, "What each stage changed"),
    (SAMPLES, "The same prompts before and after"),
    (LIMITS, "Intended use and limits"),
)
PARTS = (
    (
        "results",
        "Results",
        (
            ("whats-new", "What’s new"),
            ("replies", "Replies of every stage"),
            ("red-team", "Evaluations and red teaming"),
            ("attacks", "Red teaming by machine"),
            ("audit", "Autonomy audit"),
            ("elo", "Elo by axis"),
            ("alignment", "Alignment evaluations"),
            ("capability", "Capability evaluations"),
            ("published", "Beside the Claude 2 card"),
            ("improved", "Use-case improvements"),
            ("tradeoffs", "Mitigations and trade-offs"),
            ("improve", "Areas for improvement"),
            ("deltas", "All changes from start to final"),
            ("matrix", "Every evaluation at every stage"),
        ),
    ),
    ("judges", "Graders", (("graders", "Can the graders be trusted?"),)),
    ("sources", "Data", (("data", "Training data"),)),
    (
        "method",
        "Method",
        (
            ("details", "Model details"),
            ("plots", "Pictures of the run"),
            ("ethics", "Ethical considerations"),
            ("references", "References"),
        ),
    ),
    ("proof", "Lineage", (("lineage", "Artifacts"), ("reproduce", "Reproduce and verify"))),
)
FOLDED = frozenset(key for key, _, _ in PARTS)
# Heading -> id, in the order of the page.
IDS = {title: key for key, title in FRONT} | {
    title: key for part, name, sections in PARTS for key, title in ((part, name), *sections)
}
TITLES = {key: title for title, key in IDS.items()}
# Sections that every card has.
REQUIRED = (
    *(key for key, _ in FRONT),
    *("red-team", "published", "improved", "tradeoffs", "improve", "matrix", "graders", "data"),
    *("details", "ethics", "references", "lineage", "reproduce"),
)
