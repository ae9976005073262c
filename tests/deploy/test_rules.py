"""The rules of Prometheus: what promtool says of them, and whether their tests would notice a slip of the pen."""

import json
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
READ = {file.name: yaml.safe_load(file.read_text()) for file in TESTS}
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


def place(folder: Path, rules: list[dict], tests: dict[str, dict]) -> list[str]:
    """Writes rules, and files of tests beside them as deploy/monitoring has them. Returns their paths."""
    (folder / "tests").mkdir(parents=True)
    (folder / "rules.yml").write_text(json.dumps({"groups": [{"name": "rules", "rules": rules}]}))
    for name, test in tests.items():
        (folder / "tests" / name).write_text(json.dumps(test))
    return [f"tests/{name}" for name in tests]


def test_promtool_can_read_the_rules(promtool):
    ran = promtool("check", "rules", MONITORING / "rules.yml")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_group_has_a_test_and_every_test_a_group():
    assert {file.stem.removesuffix("_days") for file in TESTS} == set(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_the_rules_do_what_their_tests_say(promtool, group, tmp_path):
    tests = {file.name: READ[file.name] for file in of(group)}
    ran = promtool("test", "rules", *place(tmp_path, GROUPS[group]["rules"], tests), cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", sorted({rule["alert"] for rule in ALERTS}))
def test_every_alert_is_seen_firing_and_seen_silent(name):
    [group] = [group for group, found in GROUPS.items() if any(r.get("alert") == name for r in found["rules"])]
    fires = silent = False
    for case in (case for file in of(group) for case in READ[file.name]["tests"]):
        asked = [c for c in case["promql_expr_test"] if f'"{name}"' in c["expr"]]
        fires |= any(case["exp_samples"] for case in asked)
        silent |= any(not case["exp_samples"] for case in asked)
        fires |= any(c["alertname"] == name and c["exp_alerts"] for c in case.get("alert_rule_test", ()))
    assert fires
    assert silent


@dataclass
class Mutant:
    """A rule with one slip in it, and the name of its group."""

    said: str
    group: str
    rule: dict


COMPARATORS = {">": ("<", ">="), "<": (">", "<="), ">=": ("<", ">"), "<=": (">", "<"), "==": ("!=",), "!=": ("==",)}
WORDS = {
    "and": ("or", "unless"), "or": ("and",), "unless": ("and",), "sum": ("max",), "max": ("min", "sum"),
    "avg_over_time": ("max_over_time",), "min_over_time": ("max_over_time",), "count": ("sum",),
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
    for group, found in GROUPS.items():
        for rule in found["rules"]:
            changes = [(what, {"expr": expr}) for what, expr in slips(rule["expr"])]
            if "for" in rule:
                changes += [(f"for {other}", {"for": other}) for other in (*longer(rule["for"]), "0s")]
            if "alert" in rule:
                other = {"page": "ticket", "ticket": "page"}[rule["labels"]["severity"]]
                changes.append((f"severity {other}", {"labels": rule["labels"] | {"severity": other}}))
            for what, change in changes:
                yield Mutant(f"{rule.get('alert') or rule['record']}: {what}", group, rule | change)


def about(rule: dict, test: dict) -> dict | None:
    """What a file of tests asks about one rule; None where that is nothing. So a mutant costs a tenth of a second."""
    name = rule.get("record") or rule["alert"]
    asks = re.compile(rf'"{name}"' if "alert" in rule else rf"{name}\b")
    cases = []
    for case in test["tests"]:
        asked = [one for one in case["promql_expr_test"] if asks.search(one["expr"])]
        rung = [one for one in case.get("alert_rule_test", ()) if one["alertname"] == name]
        # Alerts of one name differ in their window, and a case gives the series of one of them.
        given = " ".join(one["series"] for one in case["input_series"])
        if (asked or rung) and (
            "window" not in rule.get("labels", {}) or f"increase{rule['labels']['window']}" in given
        ):
            cases.append(case | {"promql_expr_test": asked, "alert_rule_test": rung})
    return test | {"tests": cases} if cases else None


def place_mutant(folder: Path, mutant: Mutant) -> list[str]:
    """Writes the mutant with the rules that it reads, and what is asked about it. Returns the paths of the tests."""
    others = GROUPS[mutant.group]["rules"] if "alert" in mutant.rule else []
    needed = [rule for rule in others if "record" in rule and rule["record"] in mutant.rule["expr"]]
    tests = {
        name: about(mutant.rule, test) for name, test in READ.items() if name in {f.name for f in of(mutant.group)}
    }
    files = place(folder, [*needed, mutant.rule], {name: test for name, test in tests.items() if test})
    assert files, mutant.said
    return [f"{folder.name}/{file}" for file in files]


def surviving(promtool, folder: Path, every: list[Mutant]) -> list[str]:
    """Which mutants pass all tests of their rule. promtool takes longer to start than to test one, so it tests many."""

    def test(batch: list[tuple[int, Mutant]]) -> list[str]:
        placed = [(mutant.said, place_mutant(folder / str(number), mutant)) for number, mutant in batch]
        ran = promtool("test", "rules", *(file for _, files in placed for file in files), cwd=folder)
        passed = set(re.findall(r"^Unit Testing:  (\S+)\n  SUCCESS$", ran.stdout, re.MULTILINE))
        assert ran.stdout.count("Unit Testing:") == sum(len(files) for _, files in placed), ran.stdout + ran.stderr
        return [said for said, files in placed if passed >= set(files)]

    numbered = list(enumerate(every))
    with ThreadPoolExecutor(2) as threads:
        return [said for found in threads.map(test, batched(numbered, 40)) for said in found]


def batched(things: list, size: int) -> list[list]:
    return [things[at : at + size] for at in range(0, len(things), size)]


@pytest.mark.slow
def test_a_slip_in_a_rule_is_caught(promtool, tmp_path):
    """Mutation testing: a threshold, comparator, window or `for` that is a little wrong fails a test."""
    every = list(mutants())
    survived = surviving(promtool, tmp_path, every)
    print(f"{len(every) - len(survived)} of {len(every)} mutants are caught; not:", *survived, sep="\n")
    assert len(every) > 500
    assert 1 - len(survived) / len(every) >= CAUGHT, survived


@pytest.mark.slow
def test_a_rule_without_a_slip_survives(promtool, tmp_path):
    """Else the mutants would be caught by a mistake of the test of them."""
    whole = [Mutant("", group, rule) for group, found in GROUPS.items() for rule in found["rules"]]
    assert len(surviving(promtool, tmp_path, whole)) == len(whole)
