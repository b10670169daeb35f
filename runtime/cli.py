"""Command lines of all programs: types that check a value, one-line errors that suggest a fix, and a short --help."""

import argparse
import difflib
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from utils import RANK, UserError, shortened

LARGEST = 2**31 - 1  # of a count; a larger one would take forever, and overflow in unexpected places


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show the default of every flag that has one, only the required flags in the usage line, and none of the `hidden` flags."""

    hidden: Collection[argparse.Action] = ()

    def __init__(self, prog: str, **settings):
        super().__init__(prog, max_help_position=32, **settings)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_switch = action.nargs == 0  # off by default
        has_default = not is_switch and action.default not in (None, "", [])
        if not has_default or "(default:" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        if action.type in (Path, location):
            return "PATH"
        return getattr(action.type, "metavar", action.dest.upper())

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Show the value once, not after each spelling."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {self.value_of(action)}"

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        """Show several values as `N ...`, the choices once."""
        one = self._metavar_formatter(action, default_metavar)(1)[0]
        return f"{one} ..." if action.nargs == "+" else super()._format_args(action, default_metavar)

    def value_of(self, action: argparse.Action) -> str:
        """Return the placeholder of a flag's value."""
        return self._format_args(action, self._get_default_metavar_for_optional(action))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Keep the lines of the examples."""
        return text if "\n" in text else super()._fill_text(text, width, indent)

    def add_usage(self, usage, actions, groups, prefix=None) -> None:
        required = [f"{a.option_strings[0]} {self.value_of(a)}" for a in actions if a.required and a.option_strings]
        positional = [self._format_args(a, a.dest) for a in actions if not a.option_strings]
        super().add_usage(" ".join(["%(prog)s", *required, "[flags]", *positional]), actions, groups, prefix)

    def add_argument(self, action: argparse.Action) -> None:
        if action not in self.hidden:
            super().add_argument(action)


class ShowHelp(argparse.Action):
    """--help shows the main flags; --help all shows every flag."""

    def __call__(self, parser: argparse.ArgumentParser, namespace, values, option_string=None) -> NoReturn:
        if values and isinstance(parser, Parser):
            parser.main = ()
        parser.print_help()
        parser.exit()


class ParsedFlags(NamedTuple):
    """The values of all flags, and of those that the command line sets."""

    args: argparse.Namespace
    explicit: dict[str, Any]


class Parser(argparse.ArgumentParser):
    """An argument parser whose --help shows the flags named in `main`, and that rejects a bad flag with one helpful line."""

    def __init__(self, description: str, *, main: Iterable[str] = (), add_help: bool = True, **settings):
        super().__init__(description=description, formatter_class=HelpFormatter, allow_abbrev=False, add_help=False, **settings)
        self.main = tuple(main)
        self.hint = "--help all lists all flags" if self.main else "--help lists the flags"  # ends every error message
        self.foreign_flags: dict[str, str] = {}  # flags of another mode of the program, and the explanation in the error
        self.advice_if_missing: dict[str, str] = {}  # advice to add where a required flag is missing
        if add_help:
            choices: dict[str, Any] = {"nargs": "?", "choices": ["all"], "metavar": "all"} if self.main else {"nargs": 0}
            self.add_argument("--help", "-h", action=ShowHelp, **choices, default=argparse.SUPPRESS,
                              help="show the main flags; --help all: every flag" if self.main else "show this help")  # fmt: skip

    def _get_formatter(self) -> argparse.HelpFormatter:
        formatter = super()._get_formatter()
        if self.main and isinstance(formatter, HelpFormatter):
            shown = {f"--{name}" for name in (*self.main, "help")}
            formatter.hidden = [a for a in self._actions if a.option_strings and a.option_strings[0] not in shown]
        return formatter

    def parse_args(self, args=None, namespace=None):
        """Parse a command line. Names are checked first: argparse would report a misspelled flag as a missing required one."""
        names = flag_names(sys.argv[1:] if args is None else args)
        for name in names:
            if name not in self._option_string_actions:
                self.error(self.describe_unknown(name))
        if not {"--help", "-h"} & {*names}:
            self.check_required(names)
        return super().parse_args(args, namespace)

    def parse_explicit(self, argv: Sequence[str]) -> ParsedFlags:
        """Parse a command line of flags. Return the values of all flags, and of those that the command line sets."""
        not_set = object()
        defaults = {a.dest: self.get_default(a.dest) for a in self._actions if a.default is not argparse.SUPPRESS}
        args = self.parse_args(argv, argparse.Namespace(**dict.fromkeys(defaults, not_set)))
        explicit = {name: value for name, value in vars(args).items() if value is not not_set}
        return ParsedFlags(argparse.Namespace(**(defaults | explicit)), explicit)

    def check_required(self, names: Collection[str]) -> None:
        """End the program with an error if a required flag is missing."""
        required = [action.option_strings for action in self._actions if action.required and action.option_strings]
        missing = [spellings[0] for spellings in required if not {*spellings} & {*names}]
        if missing:
            advice = [self.advice_if_missing[name] for name in missing if name in self.advice_if_missing]
            self.error("; ".join([f"{' and '.join(missing)}: required", *advice]))

    def require_nothing(self) -> None:
        """Make every flag optional."""
        for action in self._actions:
            action.required = False

    def describe_unknown(self, name: str) -> str:
        """Return the error message for a flag that does not exist."""
        if name in self.foreign_flags:
            return f"{name}: {self.foreign_flags[name]}"
        return f"{name}: no such flag{did_you_mean(name, self._option_string_actions)}"

    def _check_value(self, action: argparse.Action, value) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, not_one_of(str(value), list(map(str, action.choices))))

    def error(self, message: str) -> NoReturn:
        """Print a message on one line and exit with status 2."""
        if RANK == "0":  # all processes find the same error, one prints it
            print(f"error: {shortened(message)} ({self.hint})", file=sys.stderr)
        sys.exit(2)


def flag_names(argv: Iterable[str]) -> list[str]:
    """Return the names of the flags in a command line up to `--`, without their values."""
    names = []
    for text in argv:
        if text == "--":
            break
        if re.match(r"--?[^\W\d]", text) and " " not in text.split("=")[0]:  # argparse treats anything else as a value
            names.append(text.split("=")[0])
    return names


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the one or two `names` most similar to `text`, or "" if none is similar."""
    plain = {name.lstrip("-").lower(): name for name in names}
    close = difflib.get_close_matches(text.lstrip("-").replace("-", "_").lower()[:40], plain, n=2)
    return f"; did you mean {' or '.join(plain[name] for name in close)}?" if close else ""


def not_one_of(text: str, names: Collection[str]) -> str:
    """Return the error message for a `text` that is not one of `names`."""
    return f"expected one of {', '.join(names)}, got {text[:40]!r}{did_you_mean(text, names)}"


@dataclass(frozen=True)
class Number:
    """An argparse type: an int or a float in [low, high], or in (low, high] with `above`; a multiple of `step`, unless that is 0.

    Without `high`, an int is at most LARGEST and a float finite.
    """

    kind: type[int] | type[float]
    low: float
    high: float | None
    above: bool
    step: int

    @property
    def metavar(self) -> str:
        """The placeholder of the value in help texts."""
        return "N" if self.kind is int else "X"

    @property
    def highest(self) -> float:
        """The largest value that is accepted."""
        if self.high is not None:
            return self.high
        return LARGEST if self.kind is int else sys.float_info.max

    def describe(self, *, with_highest: bool) -> str:
        """Return the range in words."""
        kind = "an integer" if self.kind is int else "a number"
        words = f"a multiple of {self.step}," if self.step else kind
        words += f" {'above' if self.above else 'of at least'} {self.low}"
        return f"{words} and at most {self.highest}" if with_highest else words

    def __call__(self, text: str) -> float:
        has_limit = self.high is not None
        try:
            value = self.kind(text)
        except ValueError:
            expected = self.describe(with_highest=has_limit)
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text[:40]!r}") from None
        inside = (self.low < value if self.above else self.low <= value) and value <= self.highest
        if not inside or (self.step and value % self.step):
            expected = self.describe(with_highest=has_limit or value > self.highest)
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text[:40]}")
        return value


def number(kind: type[int] | type[float], low: float, high: float | None = None, *, above: bool = False, step: int = 0) -> Number:
    """Return the argparse type of a number in a range; for the arguments see Number."""
    return Number(kind, low, high, above, step)


COUNT = number(int, 1)
INDEX = number(int, 0)
SEED = number(int, 0, 2**64 - 1)
PROBABILITY = number(float, 0, 1)
FRACTION = number(float, 0, 1, above=True)
POSITIVE = number(float, 0, above=True)
NOT_NEGATIVE = number(float, 0)


def location(text: str) -> Path:
    """Parse a path. An empty text is refused, because it would mean the current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}; is a shell variable empty?")
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name that is not valid text can be neither stored as JSON nor drawn into a plot
        raise argparse.ArgumentTypeError(describe_undecoded(text)) from None
    return Path(text)


def describe_undecoded(text: str) -> str:
    """Return the error message for a path with bytes that Python could not decode: the locale or the file's name is wrong."""
    try:
        name = os.fsencode(text).decode()
    except UnicodeError:
        return f"expected a path of Unicode characters, got {text!r}; rename the file"
    variable = next((name for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "LANG")
    encoding, locale = sys.getfilesystemencoding(), os.environ.get(variable, "")
    return (
        f"expected a path in the encoding {encoding} of the locale {variable}={locale}, got {name}; "
        f"set PYTHONUTF8=1, or {variable} to a UTF-8 locale"
    )


def choice(*names: str) -> Callable[[str], str]:
    """Return an argparse type that accepts one of `names`, in upper or lower case."""

    def parse(text: str) -> str:
        for name in names:
            if name.lower() == text.lower():
                return name
        raise argparse.ArgumentTypeError(not_one_of(text, names))

    return parse


def add_device_flags(parser: argparse.ArgumentParser) -> Callable[..., argparse.Action]:
    """Add the flags about the machine, which Trainer and Tester share; return the add_argument of their group."""
    add = parser.add_argument_group("machine").add_argument
    add("--device", default="auto", help="auto: the first available of cuda, mps and cpu")
    add("--cuda", dest="device", action="store_const", const="cuda", help="short for --device cuda")
    add("--amp", default="auto", choices=["auto", "none", "bfloat16", "float16"],
        help="precision of autocast (loss and KL: always float32); auto: bfloat16 or float16 where it is fast")  # fmt: skip
    add("--compile", action="store_true", help="compile the model with torch.compile; takes minutes at the start, for a GPU")
    add("--cache_dir", type=location, help="folder of the decoded frames (default: DR/.frame_cache, or else the user's cache)")
    return add


def expand_flag_files(argv: Iterable[str]) -> list[str]:
    """Return the command line with each @FILE replaced by the flags in FILE, in which # begins a comment.

    Raises UserError for a file that cannot be read.
    """
    flags = []
    for text in argv:
        if not text.startswith("@"):
            flags.append(text)
            continue
        try:
            content = Path(text[1:]).read_bytes()
            is_utf_16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # written by > in Windows PowerShell
            flags += shlex.split(content.decode("utf-16" if is_utf_16 else "utf-8-sig"), comments=True)
        except (OSError, ValueError) as error:  # missing file; invalid text or an unmatched quotation mark
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{text}: cannot be read ({reason}); expected a file of flags, as --print_config prints") from None
    return flags


def config_lines(parser: argparse.ArgumentParser, args: argparse.Namespace, explicit: Collection[str]) -> list[str]:
    """Return all settings as flags, one per line, in the parser's groups, with a mark on the `explicit` ones.

    A setting that is off or None becomes a comment, so that the lines can be used as a file of flags.
    """
    lines = [f"# All settings of --model {args.model} with --preset {args.preset}. From a file: python Trainer.py @FILE"]
    remaining = {name: value for name, value in vars(args).items() if name != "print_config"}
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.dest in remaining]
        if actions:
            lines += ["", f"# {group.title}"]
        for action in actions:
            if action.dest in remaining:  # else a short form of an earlier flag
                line = config_line(action.option_strings[0], remaining.pop(action.dest))
                lines.append(f"{line:<33} # given" if action.dest in explicit else line)
    return lines


def config_line(name: str, value: object) -> str:
    """Return one setting as a flag, or as a comment if it is off or None."""
    if value is None or value is False:
        return f"# {name}: {'not set' if value is None else 'off'}"
    return name if value is True else f"{name} {shlex.quote(str(value))}"
