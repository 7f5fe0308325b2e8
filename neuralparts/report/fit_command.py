"""The command that makes a part again, from the flags of its record."""

import shlex
from typing import Any

from neuralparts.flag_contradictions import HASH_DEFAULTS
from neuralparts.flags import FIT_GROUPS, FLAGS, NEUTRAL_FLAGS, default_init


def fit_command(input_name: str, flags: dict[str, Any]) -> str:
    """`python trainer.py INPUT --FLAG VALUE ...` for a POSIX shell, with the flags that differ from their defaults.

    Flags of where and how a fit runs are left out: another machine has its own. input_name: the input's name without
    its folder. flags: as the record has them; others than those of a fit are left out.
    """
    defaults = {name: flag.default for name, flag in FLAGS.items()} | HASH_DEFAULTS
    defaults["init"] = default_init(flags.get("activation"))
    names = [name for group in FIT_GROUPS.values() for name in group if name not in NEUTRAL_FLAGS]
    # A flag that was left out and has no default, such as --numLayers, is None in the record.
    given = [name for name in names if flags.get(name) not in (None, defaults[name])]
    words = ["python", "trainer.py", f"./{input_name}" if input_name.startswith("-") else input_name]
    return shlex.join(words + [word for name in given for word in _as_given(name, flags[name])])


def _as_given(name: str, value: Any) -> list[str]:
    """A flag and its value as a user writes them: 180 for 180.0, `--suffix=-b` for a value that looks like a flag."""
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
