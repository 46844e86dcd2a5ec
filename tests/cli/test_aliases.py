"""Words of other tools: a refusal names what is called otherwise here, and every such name exists in a room."""

import pytest
import yaml

from charter.building import ROOMS
from charter.ground.artifact.errors import CharterError
from charter.ground.settings.problems import _ROLES, _ROOMS, _SETTINGS, our_name, validate
from charter.runner.rooms import list_settings, open_room

SETTINGS = {room: {s.name for s in list_settings(open_room(room))} for room in ROOMS}
ROLES = {role for room in ROOMS for role in open_room(room).roles}


def test_every_name_that_a_hint_gives_exists() -> None:
    settings = set().union(*SETTINGS.values())
    assert {name for ours in _SETTINGS.values() for name in ours} <= settings | ROLES
    assert {name for ours in _ROLES.values() for name in ours} <= ROLES
    assert {name for ours in _ROOMS.values() for name in ours} <= ROOMS.keys() | ROLES


def test_no_word_of_other_tools_is_a_name_of_ours_in_the_same_place() -> None:
    for words, ours in _SETTINGS.items():
        for room, names in SETTINGS.items():
            assert not set(words) & names or not set(ours) & (names - set(words)), (room, words)


@pytest.mark.parametrize(
    ("room", "key", "hint"),
    [
        ("finetune", "learning_rate", "lr"),
        ("finetune", "num_train_epochs", "epochs"),
        ("finetune", "batch_size", "batch"),
        ("finetune", "max_seq_length", "context"),
        ("finetune", "lora_r", "lora.rank"),
        ("finetune", "lr_scheduler_type", "schedule"),
        ("rl", "learning_rate", "lr"),
        ("rl", "kl_coef", "kl.coefficient"),
        ("rl", "beta", "kl.coefficient"),
        ("rl", "max_new_tokens", "rollout.max_tokens"),
        ("rl", "num_generations", "rollout.replies"),
        ("dpo", "rpo_alpha", "nll"),
        ("debias", "learning_rate", "train.lr"),
        ("pretrain", "n_layer", "sizing.layers"),
        ("evaluate", "benchmarks", "tasks"),
    ],
)
def test_a_setting_of_other_tools_is_told_by_our_name(room: str, key: str, hint: str) -> None:
    with pytest.raises(CharterError, match=rf"unknown key {key}; did you mean {hint}\? allowed: ".replace(".", r"\.")):
        validate(open_room(room).settings, {key: 1}, "here")


@pytest.mark.parametrize(
    ("word", "room"),
    [("ppo", "rl"), ("sft", "finetune"), ("reward_model", "preference"), ("GRPO", "rl"), ("best-of-n", "select")],
)
def test_a_room_of_other_tools_is_told_by_our_name(word: str, room: str) -> None:
    with pytest.raises(CharterError, match=f"there is no room '{word}'; did you mean {room}\\? allowed: corpus,"):
        open_room(word)


def test_a_word_counts_only_where_its_meaning_is_allowed() -> None:
    assert our_name("reward_model", ["policy", "reward"]) == "reward"
    assert our_name("learning_rate", ["steps"]) is None and our_name("lr", ["lr"]) is None


def test_yaml_reads_every_setting_as_a_word() -> None:
    """`off`, `on`, `yes` and `no` would come out as true and false."""
    for room, names in SETTINGS.items():
        for part in {part for name in names for part in name.split(".")}:
            assert yaml.safe_load(part) == part, f"{room}: {part}"
