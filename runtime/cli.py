"""What every program's flags are read with: types that check, refusals in one line that say what was meant, short help."""

import argparse
import difflib
import re
import shlex
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from utils import RANK, UserError

LARGEST = 2**31 - 1  # of a whole number: a count that no machine could work off ends otherwise in whatever overflows first


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the default of every flag that has one; a usage line with what is needed only; none of the `hidden` flags."""

    hidden: Collection[argparse.Action] = ()

    def __init__(self, prog: str, **settings):
        super().__init__(prog, max_help_position=32, **settings)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_none = action.default in (None, "") or action.nargs == 0  # nargs 0: a switch, which is off
        return action.help if has_none or "(default:" in action.help else super()._get_help_string(action)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return "PATH" if action.type is Path else getattr(action.type, "metavar", action.dest.upper())

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """The value once, not behind each spelling."""
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {self.value_of(action)}"

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        """Many values as `N ...`, the choices once."""
        one = self._metavar_formatter(action, default_metavar)(1)[0]
        return f"{one} ..." if action.nargs == "+" else super()._format_args(action, default_metavar)

    def value_of(self, action: argparse.Action) -> str:
        """How the value of a flag is shown."""
        return self._format_args(action, self._get_default_metavar_for_optional(action))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Examples keep their lines."""
        return text if "\n" in text else super()._fill_text(text, width, indent)

    def add_usage(self, usage, actions, groups, prefix=None) -> None:
        needed = [f"{a.option_strings[0]} {self.value_of(a)}" for a in actions if a.required and a.option_strings]
        behind = [self._format_args(a, a.dest) for a in actions if not a.option_strings]
        super().add_usage(" ".join(["%(prog)s", *needed, "[flags]", *behind]), actions, groups, prefix)

    def add_argument(self, action: argparse.Action) -> None:
        if action not in self.hidden:
            super().add_argument(action)


class ShowHelp(argparse.Action):
    """--help, with the flags that matter; --help all, with all."""

    def __call__(self, parser, namespace, values, option_string=None):
        parser.main = () if values else parser.main
        parser.print_help()
        parser.exit()


class Parser(argparse.ArgumentParser):
    """Shows in --help the flags named in `main`, or all; refuses a bad flag in one line that says which may be meant."""

    def __init__(self, description: str, *, main: Iterable[str] = (), add_help: bool = True, **settings):
        super().__init__(description=description, formatter_class=HelpFormatter, allow_abbrev=False, add_help=False, **settings)
        self.main = tuple(main)
        self.hint = "--help all lists all flags" if self.main else "--help lists the flags"  # behind every refusal
        self.elsewhere: dict[str, str] = {}  # flags that it does not have, and what is to be said of each
        self.remedies: dict[str, str] = {}  # what is to be said besides where a needed flag is missing
        if add_help:
            choices = {"nargs": "?", "choices": ["all"], "metavar": "all"} if self.main else {"nargs": 0}
            self.add_argument("--help", "-h", action=ShowHelp, **choices, default=argparse.SUPPRESS,
                              help="this text; --help all: with every flag" if self.main else "this text")  # fmt: skip

    def _get_formatter(self) -> argparse.HelpFormatter:
        formatter = super()._get_formatter()
        shown = {f"--{name}" for name in (*self.main, "help")}
        formatter.hidden = [a for a in self._actions if self.main and a.option_strings and a.option_strings[0] not in shown]
        return formatter

    def parse_args(self, args=None, namespace=None) -> argparse.Namespace:
        """Looks at the names first: argparse would report a misspelt flag as the lack of the one that was meant."""
        given = []
        for text in sys.argv[1:] if args is None else args:
            if text == "--":
                break
            if re.match(r"--?[^\W\d]", text) and " " not in text.split("=")[0]:  # else a value, for argparse too
                given.append(text.split("=")[0])
        for name in given:
            if name not in self._option_string_actions:
                self.error(self.unknown(name))
        needed = [a.option_strings for a in self._actions if a.required and a.option_strings]
        missing = [names[0] for names in needed if not {*names} & {*given}]
        if missing and not {"--help", "-h"} & {*given}:
            remedies = [self.remedies[name] for name in missing if name in self.remedies]
            self.error("; ".join([f"{' and '.join(missing)}: needed, and not given", *remedies]))
        return super().parse_args(args, namespace)

    def unknown(self, name: str) -> str:
        """What is to be said of a flag that does not exist."""
        if name in self.elsewhere:
            return f"{name}: {self.elsewhere[name]}"
        return f"{name}: no such flag{did_you_mean(name, self._option_string_actions)}"

    def _check_value(self, action: argparse.Action, value) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, one_of(str(value), list(map(str, action.choices))))

    def error(self, message: str):
        if RANK == "0":  # all find the same, one says it
            print(f"error: {' '.join(message.split())} ({self.hint})", file=sys.stderr)
        sys.exit(2)


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """ "; did you mean ...?" with the one or two of `names` that are most like `text`; nothing if none is."""
    plain = {name.lstrip("-").lower(): name for name in names}
    close = difflib.get_close_matches(text.lstrip("-").replace("-", "_").lower()[:40], plain, n=2)
    return f"; did you mean {' or '.join(plain[name] for name in close)}?" if close else ""


def one_of(text: str, names: Collection[str]) -> str:
    """That `text` was found where one of `names` was expected."""
    return f"{text[:40]!r} found, one of {', '.join(names)} expected{did_you_mean(text, names)}"


def number(kind: type, low: float, high: float | None = None, *, above: bool = False, step: int = 0):
    """An argparse type: an int or float within [low, high], or (low, high] where `above`; a multiple of `step`, if any. Without
    `high`, an int is at most LARGEST and a float finite."""
    most = high if high is not None else LARGEST if kind is int else sys.float_info.max
    expected = f"a multiple of {step}," if step else "an integer" if kind is int else "a number"
    expected += f" {'above' if above else 'of at least'} {low}"
    limit = f" and at most {most}"
    expected += limit if high is not None else ""

    def parse(text: str):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} found, {expected} expected") from None
        inside = (low < value if above else low <= value) and value <= most
        if not inside or (step and value % step):
            too_large = limit if high is None and value > most else ""
            raise argparse.ArgumentTypeError(f"{text[:40]} found, {expected}{too_large} expected")
        return value

    parse.metavar = "N" if kind is int else "X"
    return parse


COUNT = number(int, 1)
INDEX = number(int, 0)
SEED = number(int, 0, 2**64 - 1)
PROBABILITY = number(float, 0, 1)
FRACTION = number(float, 0, 1, above=True)
POSITIVE = number(float, 0, above=True)
NOT_NEGATIVE = number(float, 0)


def location(text: str) -> Path:
    """An argparse type: a path. Empty text would mean the folder where the program was started."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"{text!r} found, a path expected; is a variable of the shell empty?")
    try:
        text.encode()
    except UnicodeEncodeError:  # a name whose bytes are no text, which cannot be printed, nor drawn into a picture
        raise argparse.ArgumentTypeError(f"{text!r} found, a path of Unicode characters expected") from None
    return Path(text)


location.metavar = "PATH"


def choice(*names: str):
    """An argparse type: one of `names`, in any case of letters."""

    def parse(text: str) -> str:
        for name in names:
            if name.lower() == text.lower():
                return name
        raise argparse.ArgumentTypeError(one_of(text, names))

    return parse


def add_device_flags(parser: Parser):
    """The flags about the machine, the same for Trainer and Tester; returns the group's add_argument for more of them."""
    add = parser.add_argument_group("machine").add_argument
    add("--device", default="auto", help="auto: the first of cuda, mps, cpu that is there")
    add("--cuda", dest="device", action="store_const", const="cuda", help="short for --device cuda")
    add("--amp", default="auto", choices=["auto", "none", "bfloat16", "float16"],
        help="autocast precision, loss and KL stay float32; auto: bfloat16 where the machine is fast in it")  # fmt: skip
    add("--compile", action="store_true", help="torch.compile the model: minutes at the start, meant for a GPU")
    add("--cache_dir", type=location, help="folder of the decoded frames (default: DR/.frame_cache, else the user's cache)")
    return add


def with_files(argv: list[str]) -> list[str]:
    """The same with the flags that stand in FILE in place of @FILE, where # begins a comment. Raises UserError."""
    flags = []
    for text in argv:
        if not text.startswith("@"):
            flags.append(text)
            continue
        try:
            written = Path(text[1:]).read_bytes()
            utf_16 = written.startswith((b"\xff\xfe", b"\xfe\xff"))  # Windows PowerShell's >
            flags += shlex.split(written.decode("utf-16" if utf_16 else "utf-8-sig"), comments=True)
        except (OSError, ValueError) as error:  # not there; no text, or a quotation mark without its fellow
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{text}: cannot be read ({reason}); expected a file of flags, like --print_config writes") from None
    return flags


def config_lines(parser: Parser, args: argparse.Namespace, given: dict) -> list[str]:
    """All settings as flags, one a line, in the parser's groups; those that were `given` are marked, what is off or unset is a
    comment."""
    lines = [f"# All settings of --model {args.model} with --preset {args.preset}. From a file: python Trainer.py @FILE"]
    left = {name: value for name, value in vars(args).items() if name != "print_config"}
    for group in parser._action_groups:
        own = [action for action in group._group_actions if action.dest in left]
        lines += ["", f"# {group.title}"] if own else []
        for action in own:
            if action.dest not in left:  # a short form of the flag before
                continue
            value, name = left.pop(action.dest), action.option_strings[0]
            line = f"# {name}: {'off' if value is False else 'not set'}"
            if value is not None and value is not False:
                line = name if value is True else f"{name} {shlex.quote(str(value))}"
            lines.append(f"{line:<33} # given" if action.dest in given else line)
    return lines
