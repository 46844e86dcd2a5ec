"""GRE-shaped verbal items: completions, sentence equivalence, reading with choices that all must be found (card 4.3.1).

Five worked examples with reasoning, an answer sampled at T=1; partly right is wrong. The shipped items are ours, and
no official form: no scaled score follows from them.
"""

from charter.rooms.evaluate.exam_scale import section_task

TASK = section_task("gre_verbal", "verbal", ("completion", "equivalence", "single", "select_all"))
