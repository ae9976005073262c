"""The rules of Prometheus: what promtool says of them, and whether their tests would notice a slip of the pen."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import REPOSITORY

MONITORING = REPOSITORY / "deploy" / "monitoring"
RULES = yaml.safe_load((MONITORING / "rules.yml").read_text())
TESTS = sorted((MONITORING / "tests").glob("*.yml"))
GROUPS = {group["name"].removeprefix("neocog-"): group for group in RULES["groups"]}
ALERTS = [rule for group in GROUPS.values() for rule in group["rules"] if "alert" in rule]
CAUGHT = 0.95  # of the mutants, at least


@pytest.fixture(scope="module")
def promtool():
    if (found := shutil.which("promtool")) is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    return lambda *arguments, **named: subprocess.run([found, *arguments], capture_output=True, text=True, **named)


def of(group: str) -> list[Path]:
    """The files that test a group: `<group>.yml`, and `<group>_days.yml` for what takes days."""
    return [file for file in TESTS if file.stem.removesuffix("_days") == group]


def place(folder: Path, group: dict, files: list[Path]) -> list[str]:
    """Writes one group alone, and its tests beside it: a test of one group evaluates no other. Returns their paths."""
    (folder / "tests").mkdir(parents=True)
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}))
    for file in files:
        shutil.copy(file, folder / "tests")
    return [f"tests/{file.name}" for file in files]


def test_promtool_can_read_the_rules(promtool):
    ran = promtool("check", "rules", MONITORING / "rules.yml")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_group_has_a_test_and_every_test_a_group():
    assert {file.stem.removesuffix("_days") for file in TESTS} == set(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_the_rules_do_what_their_tests_say(promtool, group, tmp_path):
    files = place(tmp_path, GROUPS[group], of(group))
    ran = promtool("test", "rules", *files, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", sorted({rule["alert"] for rule in ALERTS}))
def test_every_alert_is_seen_firing_and_seen_silent(name):
    [group] = [group for group, found in GROUPS.items() if any(r.get("alert") == name for r in found["rules"])]
    fires = silent = False
    for case in (case for file in of(group) for case in yaml.safe_load(file.read_text())["tests"]):
        asked = [c for c in case["promql_expr_test"] if re.search(rf'"[\w|]*\b{name}\b[\w|]*"', c["expr"])]
        fires |= any(case["exp_samples"] for case in asked)
        silent |= any(not case["exp_samples"] for case in asked)
        fires |= any(c["alertname"] == name and c["exp_alerts"] for c in case.get("alert_rule_test", ()))
    assert fires
    assert silent


@dataclass
class Mutant:
    """A group of rules with one slip in it."""

    name: str
    group: str
    changed: dict


COMPARATORS = {">": ("<", ">="), "<": (">", "<="), ">=": ("<", ">"), "<=": (">", "<"), "==": ("!=",), "!=": ("==",)}
WORDS = {
    "and": ("or", "unless"), "or": ("and",), "unless": ("and",), "sum": ("max", "count"), "max": ("min", "sum"),
    "avg_over_time": ("max_over_time",), "min_over_time": ("max_over_time",), "increase": ("delta",), "rate": ("increase",),
    "absent": (), "count": ("sum",),
}  # fmt: skip
MATCHERS = {"=~": ("!~",), "!~": ("=~",), "=": ("!=",), "!=": ("=",)}
TOKEN = re.compile(
    r'"[^"]*"|(?P<open>[{[])|(?P<close>[}\]])|(?P<duration>(?<![\w.:])\d+[smhd]\b)|(?P<number>(?<![\w.:"])\d+(?:\.\d+)?(?![\w.]))'
    r"|(?P<operator>=~|!~|==|!=|>=|<=|[<>=])|(?P<word>[a-zA-Z_:][\w:]*)"
)


def slips(expr: str) -> Iterator[tuple[str, str]]:
    """Every expression that differs in one number, duration, comparator, matcher or operator, and what differs."""
    within = ""
    for token in TOKEN.finditer(expr):
        text = token[0]
        if token["open"]:
            within = text
        elif token["close"]:
            within = ""
        others: tuple[str, ...] = ()
        if token["number"]:
            others = tuple(f"{float(text) * by:g}" for by in (2, 0.5, 1.1, 0.9)) if float(text) else ("1", "-1")
        elif token["duration"]:
            others = tuple(longer(text))
        elif token["operator"]:
            others = (MATCHERS if within == "{" else COMPARATORS)[text]
        elif token["word"] and not within:
            others = WORDS.get(text, ())
        for other in others:
            yield f"{text} at {token.start()} becomes {other}", expr[: token.start()] + other + expr[token.end() :]


SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def longer(duration: str) -> list[str]:
    """Twice as long, and half as long."""
    seconds = int(duration[:-1]) * SECONDS[duration[-1]]
    return [f"{seconds * 2}s", f"{seconds // 2}s"]


def mutants() -> Iterator[Mutant]:
    for name, group in GROUPS.items():
        for i, rule in enumerate(group["rules"]):
            changes = [(what, {"expr": expr}) for what, expr in slips(rule["expr"])]
            if "for" in rule:
                changes += [(f"for {other}", {"for": other}) for other in (*longer(rule["for"]), "0s")]
            if "alert" in rule:
                other = {"page": "ticket", "ticket": "page"}[rule["labels"]["severity"]]
                changes.append((f"severity {other}", {"labels": rule["labels"] | {"severity": other}}))
            for what, change in changes:
                rules = [*group["rules"][:i], rule | change, *group["rules"][i + 1 :]]
                said = f"{rule.get('alert') or rule['record']}: {what}"
                yield Mutant(said, name, group | {"rules": rules})


@pytest.mark.slow
def test_a_slip_in_a_rule_is_caught(promtool, tmp_path):
    """Mutation testing: the threshold, comparator, window or `for` that is wrong by a little fails a test."""

    def survives(numbered: tuple[int, Mutant]) -> bool:
        number, mutant = numbered
        folder = tmp_path / str(number)
        files = place(folder, mutant.changed, of(mutant.group))
        return all(promtool("test", "rules", file, cwd=folder).returncode == 0 for file in files)

    every = list(mutants())
    with ThreadPoolExecutor(2) as threads:
        survived = [m.name for m, alive in zip(every, threads.map(survives, enumerate(every)), strict=True) if alive]
    print(f"{len(every) - len(survived)} of {len(every)} mutants are caught; not:", *survived, sep="\n")
    assert len(every) > 500
    assert 1 - len(survived) / len(every) >= CAUGHT, survived
