"""This run's metrics beside main's, and what the gate said: Markdown, for a job summary and a pull request."""

import json
from pathlib import Path
from typing import Final

HERE: Final = Path("out/metrics.json")
MAIN: Final = Path("out/main/metrics.json")
GATE: Final = Path("out/gate.md")
SHOWN: Final = {  # and how many of what a difference is shown in
    "accuracy": "of test images read rightly",
    "log_loss": "log loss",
    "calibration_error": "calibration error",
    "coverage": "answered",
    "accuracy_answered": "of those read rightly",
}


def table(here: dict[str, float], main: dict[str, float] | None) -> str:
    """A row for each metric; without main's the column is empty, and says why."""
    rows = ["| | here | main | |", "|---|---:|---:|---:|"]
    for name, said in SHOWN.items():
        known = None if main is None else main.get(name)
        before = "" if known is None else f"{known:.4f}"
        difference = "" if known is None else f"{here[name] - known:+.4f}"
        rows.append(f"| {said} | {here[name]:.4f} | {before} | {difference} |")
    if main is None:
        rows.append("\nThere is no run of main to compare with.")
    return "\n".join(rows)


def main() -> None:
    before = json.loads(MAIN.read_text()) if MAIN.exists() else None
    print("## The pipeline's metrics\n")
    print(table(json.loads(HERE.read_text()), before))
    print("\n<details><summary>The gate</summary>\n")
    print(GATE.read_text())
    print("</details>")


if __name__ == "__main__":
    main()
