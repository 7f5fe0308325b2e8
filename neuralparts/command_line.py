"""The parser of every command: its errors are one line."""

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, NoReturn

from neuralparts.wording import visible


class CommandLine(argparse.ArgumentParser):
    """A parser whose errors are one line, with the flag that a wrong one may stand for."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        """The flags as a namespace. Ends the process with code 2 and one line if they are wrong."""
        flags, unknown = self.parse_known_args(args, namespace)
        if unknown:
            wrong = next((text for text in unknown if text.startswith("-")), "").partition("=")[0]
            left_over = f"there is one input too many: {unknown[0]}"
            self.error(f"there is no flag {wrong}{self._nearest(wrong)}" if wrong else left_over)
        return flags

    def error(self, message: str) -> NoReturn:
        """Print one line and end the process with code 2."""
        self.exit(2, f"{self.prog}: {visible(message.removeprefix('argument '))}; --help lists the flags\n")

    def _nearest(self, wrong: str) -> str:
        """'; did you mean ...?' with the flag that is spelled most like `wrong`, or ''."""
        spelled = {name.strip("-").lower().replace("_", ""): name for name in self._option_string_actions}
        nearest = difflib.get_close_matches(wrong.strip("-").lower().replace("_", ""), spelled, 1)
        return f"; did you mean {spelled[nearest[0]]}?" if nearest else ""
