"""Reads the JSON files of the benchmark and of the check. A file is believed only after every field that the page uses
has been checked; the first thing wrong is told in one sentence that names file and field."""

import json
import math

FORMAT = 1
LARGEST_FILE = 256 << 20
LONGEST_TEXT = 4096


class DocumentError(Exception):
    """A file that cannot be believed; the message is for the user."""


class FieldError(Exception):
    def __init__(self, where, problem):
        super().__init__(f"{where}: {problem}")


def shown(value):
    """A value in an error message: short, on one line, without control characters."""
    text = json.dumps(value) if not isinstance(value, (dict, list)) else type(value).__name__
    return text if len(text) <= 40 else text[:37] + "..."


def text(value, where):
    if not isinstance(value, str):
        raise FieldError(where, f"{shown(value)} is not a string")
    if len(value) > LONGEST_TEXT:
        raise FieldError(where, f"the string has {len(value)} characters, more than {LONGEST_TEXT}")
    if any(ord(c) < 32 and c not in "\n\t" or 0xD800 <= ord(c) <= 0xDFFF for c in value):
        raise FieldError(where, "the string holds a control character or half of a character")


def boolean(value, where):
    if not isinstance(value, bool):
        raise FieldError(where, f"{shown(value)} is neither true nor false")


def number(minimum=-math.inf, above=-math.inf, whole=False):
    def check(value, where):
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise FieldError(where, f"{shown(value)} is not a {'whole ' * whole}number")
        if not -1e300 < value < 1e300:  # infinity and integers beyond a double too
            raise FieldError(where, "the number is not finite")
        if value < minimum or value <= above:
            least = f"{minimum} or more" if minimum > -math.inf else f"above {above}"
            raise FieldError(where, f"{shown(value)} is out of range: it must be {least}")

    return check


def nullable(inner):
    return lambda value, where: None if value is None else inner(value, where)


def array(inner):
    def check(value, where):
        if not isinstance(value, list):
            raise FieldError(where, f"{shown(value)} is not a list")
        for index, item in enumerate(value):
            inner(item, f"{where}[{index}]")

    return check


def mapping(inner):
    def check(value, where):
        if not isinstance(value, dict):
            raise FieldError(where, f"{shown(value)} is not an object")
        for key, item in value.items():
            text(key, f"{where}: a name in it")
            inner(item, f"{where}.{shown(key)[1:-1]}")

    return check


def record(required, optional=None):
    """An object with these fields. Others are let be, so that a later version may add some."""

    def check(value, where):
        if not isinstance(value, dict):
            raise FieldError(where or "the file", f"{shown(value)} is not an object")
        for name, inner in required.items():
            at = f"{where}.{name}" if where else name
            if name not in value:
                raise FieldError(at, "the field is missing")
            inner(value[name], at)
        for name, inner in (optional or {}).items():
            inner(value.setdefault(name), f"{where}.{name}" if where else name)

    return check


def fact(depth):
    """What the environment holds: strings, numbers, truth values, null, some nesting of these."""

    def check(value, where):
        if isinstance(value, (list, dict)) and not depth:
            raise FieldError(where, "it is nested too deeply")
        if isinstance(value, list):
            array(fact(depth - 1))(value, where)
        elif isinstance(value, dict):
            mapping(fact(depth - 1))(value, where)
        elif isinstance(value, str):
            text(value, where)
        elif value is not None and not isinstance(value, bool):
            number()(value, where)

    return check


COUNT = number(minimum=0)
WHOLE = number(minimum=0, whole=True)
SECONDS = number(above=0)
ACCURACY = record({"elements": WHOLE, "maximum": COUNT, "mean": COUNT, "cosine": number(minimum=-1),
                   "relative_l1": nullable(COUNT), "rmse": COUNT})

HOT = record({"samples": array(SECONDS), "median": SECONDS, "mad": COUNT, "minimum": SECONDS})
BURST = record({"state": text, "count": WHOLE, "throttled": boolean},
               {"held_back_by": nullable(text), "sm_clock_hz": nullable(COUNT),
                "power_watts": nullable(COUNT), "temperature_celsius": nullable(number()),
                "sample_clocks_hz": nullable(array(nullable(COUNT))),
                "samples_throttled": nullable(array(boolean))})

WITH_TRANSFERS = record({"samples": array(SECONDS), "median": SECONDS, "mad": COUNT, "minimum": SECONDS})
TRANSFERS = record({"sent_bytes": WHOLE, "sent_seconds": COUNT, "fetched_bytes": WHOLE, "fetched_seconds": COUNT},
                   {"memory": nullable(text)})

MEMORY = record({"bytes": SECONDS, "median": SECONDS, "samples": array(SECONDS), "shares": array(SECONDS)})

AT_SIZE = record({"kind": text, "bytes": SECONDS, "value": SECONDS})

ROW = record(
    {
        "suite": text, "case": text, "kernel": text, "dtype": text, "arm": text,
        "shape": mapping(number(whole=True)), "threads": number(minimum=1, whole=True),
        "peer": boolean, "verified": boolean,
        "error": nullable(COUNT), "bound": nullable(COUNT),
        "samples": array(SECONDS), "median": nullable(SECONDS), "mad": nullable(COUNT),
        "minimum": nullable(SECONDS), "flops": nullable(COUNT), "bytes": nullable(COUNT),
        "ceiling": nullable(text), "share": nullable(COUNT), "scratch_bytes": nullable(COUNT),
        "flags": array(text),
    },
    {
        "domain": nullable(text), "reason": nullable(text), "bound_kind": nullable(text), "arithmetic": nullable(text),
        "p10": nullable(SECONDS), "p90": nullable(SECONDS), "outliers": nullable(WHOLE),
        "block": nullable(mapping(fact(0))), "accuracy": nullable(ACCURACY),
        "backend": nullable(text), "hot": nullable(HOT), "bursts": nullable(array(BURST)),
        "memory": nullable(MEMORY), "transfers": nullable(TRANSFERS), "with_transfers": nullable(WITH_TRANSFERS),
        "cold_by": nullable(text), "sets": nullable(WHOLE),
        "share_at_size": nullable(COUNT), "ceiling_at_size": nullable(AT_SIZE),
    },
)

NOISE_PAIR = record({"suite": text, "case": text, "ratio": SECONDS})

DOCUMENT = record(
    {
        "fovea": record({"version": text, "commit": text}, {"build": nullable(text)}),
        "environment": record(
            {"cpu_model": text, "threads": number(minimum=1, whole=True)},
            {"warnings": nullable(array(text)), "missing_peers": nullable(mapping(text))},
        ),
        "ceilings": mapping(record({"value": SECONDS, "unit": text, "threads": WHOLE})),
        "noise_floor": record({"ratio": nullable(SECONDS), "pairs": array(NOISE_PAIR)},
                              {"arm": nullable(text), "case": nullable(text)}),
        "formulas": mapping(record({"flops": text, "bytes": text})),
        "rows": array(ROW),
    },
    {"started": nullable(text), "seconds": nullable(COUNT), "interrupted": nullable(boolean),
     "problems": nullable(mapping(text))},
)


IMPLEMENTATION = record({"name": text, "tier": text, "ulps": nullable(COUNT),
                         "ulps_at": nullable(number()), "share": nullable(COUNT), "wrong": WHOLE})

ACCURACY_TABLE = record(
    {
        "fovea": record({"version": text}), "cpu_model": text,
        "every": number(minimum=1, whole=True), "scalar_every": number(minimum=1, whole=True),
        "functions": array(record({"function": text, "dtype": text, "bound": text,
                                   "implementations": array(IMPLEMENTATION)})),
    },
)


def check_row(row, ceilings, where):
    """What no single field can tell: that the fields of a row agree."""
    if row["samples"]:
        if row["median"] is None:
            raise FieldError(f"{where}.median", "it is null although there are samples")
        slack = 1e-6 * row["median"]
        if not min(row["samples"]) - slack <= row["median"] <= max(row["samples"]) + slack:
            raise FieldError(f"{where}.median", "it lies outside the samples")
    elif row["median"] is not None:
        raise FieldError(f"{where}.samples", "it is empty although there is a median")
    if row["verified"] and (row["error"] is None or row["bound"] is None):
        raise FieldError(f"{where}.verified", "it is true without an error and a bound")
    if row["verified"] and not row["peer"] and row["error"] > row["bound"] * (1 + 1e-6):
        raise FieldError(f"{where}.verified", "it is true although the error is above the bound")
    if row["ceiling"] is not None and row["ceiling"] not in ceilings:
        raise FieldError(f"{where}.ceiling", f"{shown(row['ceiling'])} is not among the ceilings")


def refuse_constant(name):
    raise ValueError(f"{name} is not a number of JSON")


def load(path):
    """The document in a file, checked: a run of `fovea bench`, or (its kind is «accuracy») the table of
    `fovea check --exhaustive`. Raises DocumentError."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise DocumentError(f"{path}: larger than {LARGEST_FILE >> 20} MiB")
    try:
        document = json.loads(content.decode("utf-8"), parse_constant=refuse_constant)
    except UnicodeDecodeError as error:
        raise DocumentError(f"{path}: not UTF-8 at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path}: not valid JSON: {error}") from None
    try:
        record({"format": number(whole=True)})(document, "")
        if document["format"] != FORMAT:
            raise FieldError("format", f"version {document['format']}, this tool reads {FORMAT}")
        if document.get("kind") == "accuracy":
            ACCURACY_TABLE(document, "")
            return document
        DOCUMENT(document, "")
        mapping(fact(3))(document["environment"], "environment")
        for index, row in enumerate(document["rows"]):
            check_row(row, document["ceilings"], f"rows[{index}]")
    except FieldError as error:
        raise DocumentError(f"{path}: {error}") from None
    return document
