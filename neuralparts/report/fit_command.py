"""The command that makes a part again, from the flags of its record."""

import shlex
from typing import Any

from neuralparts.flags import FIT_GROUPS, FLAGS, HASH_DEFAULTS, default_init

# Flags of where and how a fit runs, not of its result; another machine has its own.
NOT_REPEATED = {*FIT_GROUPS["machine"], *FIT_GROUPS["folders"]}
NOT_REPEATED |= {"outputDir", "maxMemory", "showVis", "resume", "checkpointSeconds"}


def fit_command(input_name: str, flags: dict[str, Any]) -> str:
    """`python trainer.py INPUT --FLAG VALUE ...` for a POSIX shell, with the flags that differ from their defaults.

    input_name: the input's name without its folder. flags: as the record has them; others than those of a fit are left
    out.
    """
    defaults = {name: flag.default for name, flag in FLAGS.items()} | HASH_DEFAULTS
    defaults["init"] = default_init(flags.get("activation"))
    names = [name for group in FIT_GROUPS.values() for name in group if name not in NOT_REPEATED]
    # A flag that was left out and has no default, such as --numLayers, is None in the record.
    given = [name for name in names if flags.get(name) not in (None, defaults[name])]
    words = ["python", "trainer.py", input_name]
    return shlex.join(words + [word for name in given for word in (f"--{name}", _as_given(flags[name]))])


def _as_given(value: Any) -> str:
    """A value as a user writes it: 180 for 180.0."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)
