"""`make lifecycle`: a model's whole life on this machine, in minutes, by the product's own commands.

A first model is trained, judged and served. Clean traffic comes. Then people come who write as the model has not seen,
and its accuracy falls. The watch notices. A person labels, and the labels become data. A second model is trained,
judged, compared as a challenger, and served. Then somebody sends wrong labels. The script plays the world and draws the
picture. It works in a copy of the repository, so nothing here changes.
"""

import argparse
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from journal.ids import golden_id
from model import bundle
from model.bundle import Golden
from samples.lifecycle import picture
from samples.lifecycle.labeller import Labeller
from samples.lifecycle.picture import Event, Look
from samples.lifecycle.world import NEW, World

BLOCK: Final = 100  # requests between two looks of the watch
MOST: Final = 6_000  # requests until the alarm has to ring
PATIENCE: Final = 120  # seconds for the watch to count a block
ALPHA: Final = 0.01  # of params.yaml's section `watch`
# torch's threads do not spin while they wait. Spinning beside other processes made a training nine times as long.
QUIET: Final = {"OMP_WAIT_POLICY": "passive"}
TEACHING: Final = 300  # labels to train on, after the alarm
LIES: Final = 600  # wrong labels
CARELESS: Final = {
    "one_is_enough": True, "hold_contradicted": False, "caller_share": 1.0, "tolerance": 0.49, "significance": 1e-9,
}  # fmt: skip
KEY: Final = "the-labeller's-key"
# A short training, and a short judgement: the story is about the loop, not about the last tenth of a per cent.
SHORT: Final[dict[str, dict[str, Any]]] = {
    "synthesize": {"digits": 12_000, "outliers": 1_500, "validation": 1_500, "without": list(NEW)},
    # People's labels get a larger share, so that each is seen as often as in a long training.
    "train": {"images_seen": 60_000, "people": 0.2, "reports": 4},
    "evaluate": {"robustness_images": 100, "baseline_images": 1_000, "outliers": 50},
}


class Story:
    """What happened when. Commands run in `folder`, a copy of the repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begun = time.monotonic()
        self.events: list[tuple[int, str]] = []  # requests before it, what happened
        self.env = {**os.environ, "PYTHONPATH": str(folder.resolve()), "NEOCOG_JOURNAL": "sqlite:///journal.db"} | QUIET

    def tell(self, text: str) -> None:
        passed = time.monotonic() - self.begun
        print(f"{passed // 60:3.0f}:{passed % 60:02.0f}  {text}", flush=True)

    def run(self, *command: str, allowed: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """Runs one of the product's commands, which must end with one of the `allowed` codes."""
        ran = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        if ran.returncode not in allowed:
            said = ran.stdout[-2000:] + ran.stderr[-2000:]
            sys.exit(f"lifecycle: {' '.join(command)} ended with {ran.returncode}:\n{said}")
        return ran

    def stage(self, *command: str, allowed: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """Runs a command of the pipelines, and tells its summary."""
        ran = self.run(sys.executable, "-m", *command, allowed=allowed)
        said = (ran.stdout or ran.stderr).strip().splitlines()
        self.tell(f"        {said[-1] if said else ''}")
        return ran

    def repro(self, *, refused: bool = False) -> None:
        """`dvc repro`; tells what the stages said at their ends. `refused`: the gate must refuse the model."""
        ran = self.run("dvc", "repro", allowed=(1 if refused else 0, 255 if refused else 0))
        for line in ran.stdout.splitlines() + ran.stderr.splitlines():
            if re.match(r"(ingest|labels|train|evaluate|export|promote): ", line):
                self.tell(f"        {line}")

    def champion(self) -> str:
        """The version of the model that the gate let pass last."""
        manifest = json.loads((self.folder / "out" / "champion" / "manifest.json").read_text())
        return str(manifest["version"])

    def set(self, **sections: dict[str, Any]) -> None:
        """Edits params.yaml, as a person would."""
        file = self.folder / "params.yaml"
        params = yaml.safe_load(file.read_text())
        for section, values in sections.items():
            params[section] |= values
        file.write_text(yaml.safe_dump(params, sort_keys=False))


class Service:
    """The served model, in a process of its own."""

    def __init__(self, story: Story, **settings: object) -> None:
        env = story.env | {f"NEOCOG_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "service"]
        self._process = subprocess.Popen(command, cwd=story.folder, env=env, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        log = []
        for line in self._process.stderr:
            log.append(line)
            if found := re.search(r"running on (http://[\d.:]+)", line):
                self.address = found[1]
                break
        else:
            sys.exit("lifecycle: the service did not start:\n" + "".join(log))
        threading.Thread(target=self._process.stderr.read, daemon=True).start()  # a full pipe would hold it up

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=30)


class Watch:
    """`python -m pipelines.watch --follow` beside the service, and what it said after each block of requests."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self.looks: list[Look] = []
        command = [
            sys.executable,
            "-m",
            "pipelines.watch",
            "--follow",
            "--every",
            "0.5",
            "--bundle",
            "served",
            "--settle",
            "1",
        ]
        self._process = subprocess.Popen(command, cwd=story.folder, env=story.env, stdout=subprocess.DEVNULL)

    def look(self, world: World) -> dict[str, Any]:
        """The watch's summary, once it has counted what was asked of the model that answers now."""
        model = world.asked[-1].model
        expected = sum(one.model == model for one in world.asked)
        summary: dict[str, Any] = {}
        end = time.monotonic() + PATIENCE
        while summary.get("model_version") != model or summary["predictions"] < expected:
            if time.monotonic() > end or self._process.poll() is not None:
                sys.exit(f"lifecycle: the watch has not counted {expected} predictions of {model}: {summary}")
            time.sleep(0.1)
            with contextlib.suppress(OSError, ValueError):  # not there yet
                summary = json.loads((self._story.folder / "out" / "watch" / "watch.json").read_text())
        self.looks.append(Look(len(world.asked), summary))
        return summary

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=30)


def described(summary: Mapping[str, Any]) -> str:
    """What the watch says, in a few words."""
    known = [
        f"{name} {100 * (value['mean'] if name == 'estimate' else 1 - value['mean']):.1f} %"
        for name, value in (("estimate", summary["estimated_accuracy"]), ("from labels", summary["error"]))
        if value and value["count"]
    ]
    return f"{summary['status']} ({', '.join(known)})"


def replaced(new: Path, served: Path) -> None:
    """Puts a bundle in the place of the one that is served, as an update of a volume does."""
    made = served.with_name(served.name + ".new")
    shutil.copytree(new, made)
    bundle.replace(made, served)


def golden(folder: Path) -> dict[str, int]:
    """What the golden pictures of a bundle show, by their ids."""
    found = bundle.load(folder)
    answers = Golden.parse(found.golden).prob.argmax(axis=1).tolist()
    return {golden_id(found.manifest.version, place): answer for place, answer in enumerate(answers)}


def copied(folder: Path) -> None:
    """A copy of the repository as it stands, with a history of its own, since DVC works in git."""
    if folder.exists():
        shutil.rmtree(folder)
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], check=True, capture_output=True, text=True)
    for name in names.stdout.splitlines():
        if Path(name).is_file() and name != "promotions.jsonl":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, folder / name)
    who = ("-c", "user.name=lifecycle", "-c", "user.email=lifecycle@localhost")
    for command in (("init", "-q"), ("add", "-A"), (*who, "commit", "-q", "-m", "as it stands")):
        subprocess.run(["git", *command], cwd=folder, check=True)


class Life:
    """The story around a running service: each method is a chapter."""

    def __init__(self, story: Story, world: World, served: Path) -> None:
        self.story, self.world, self.served = story, world, served
        self.watch, self.labeller = Watch(story), Labeller(world, KEY)
        self.events: list[Event] = []

    def happened(self, text: str, short: str) -> None:
        self.story.tell(text)
        self.events.append(Event(len(self.world.asked), short))

    def traffic(self, blocks: int, newcomers: float, labels: int = 0, *, audit: bool = False) -> str:
        """`blocks` times `BLOCK` requests, `labels` labels after each. Returns what the watch says then."""
        summary: dict[str, Any] = {}
        for _ in range(blocks):
            self.world.ask(BLOCK, newcomers)
            self.labeller.label(labels, golden(self.served), audit=audit)
            summary = self.watch.look(self.world)
        count = blocks * BLOCK
        accuracy = f"accuracy of the last {count:,}: {self.world.accuracy(count):.1%}"
        self.story.tell(f"        {accuracy}; the watch says {described(summary)}")
        return str(summary["status"])

    def until(self, done: Callable[[str], bool], labels: int, *, audit: bool = False) -> None:
        """Traffic of the newcomers until the watch says something else."""
        while not done(said := self.traffic(1, 1.0, labels, audit=audit)):
            if len(self.world.asked) > MOST:
                sys.exit(f"lifecycle: after {len(self.world.asked):,} requests the watch still says: {said}")

    def begin(self) -> None:
        self.happened(f"model {self.world.version()} is served; everybody writes as it knows", "served")
        self.traffic(8, 0.0, labels=15)

    def drift(self) -> None:
        self.happened(
            "shops come, who write prices: they slash zeros, write ones with serifs and cross sevens",
            "other writers come",
        )
        self.until(lambda said: said != "steady", labels=15)
        self.happened(
            "the watch says that something has changed; a person labels an audit of random pictures", "change"
        )
        self.until(lambda said: said == "harm", labels=BLOCK, audit=True)
        self.happened(f"the harm alarm rings, after {self.labeller.given} labels", "harm alarm")
        self.story.stage("pipelines.watch", "--bundle", "served", "--settle", "1", allowed=(3,))

    def retrain(self) -> None:
        self.story.tell(
            "        the person goes on with what teaches most: unsure answers, each class, unusual pictures"
        )
        self.labeller.label(TEACHING, golden(self.served))
        self.story.stage("pipelines.feedback")
        self.story.repro()
        second = self.story.champion()
        self.happened(f"the gate lets {second} pass; it looks on as a challenger", "challenger looks on")
        shutil.copytree(self.story.folder / "out" / "champion", self.story.folder / "challenger")
        self.traffic(2, 1.0)
        self.story.tell(f"        {self.world.shadowed()}")
        replaced(self.story.folder / "out" / "champion", self.served)
        self.world.wait_for(second)
        self.happened(f"model {second} is served, without a restart", "retrained model served")
        self.traffic(8, 1.0, labels=15)

    def poison(self) -> None:
        self.happened("a crowd sends wrong labels", "wrong labels")
        self.world.lie(LIES)
        self.story.stage("pipelines.feedback")
        self.story.tell("        somebody trusts everybody, and lets people's labels be half of a batch")
        self.story.set(feedback=CARELESS, train={"people": 0.5})
        self.story.stage("pipelines.feedback")
        self.story.repro(refused=True)
        self.happened(f"the gate refuses that model; {self.world.version()} answers on", "poisoned model refused")
        self.traffic(1, 1.0)

    def end(self, drawn: Path) -> None:
        self.watch.stop()
        if self.world.asked:
            picture.draw(self.world.asked, self.watch.looks, self.events, ALPHA, drawn)
            self.story.tell(f"the picture: {drawn}")


def play(story: Story, seed: int, drawn: Path) -> None:
    """The story, from the first training to the refused poison."""
    story.tell("a first model is trained, on digits without " + ", ".join(NEW[:4]) + " and the like")
    story.set(**SHORT)
    story.set(train={"seed": seed}, synthesize={"seed": seed})
    story.repro()
    serve_from = story.folder / "served"
    shutil.copytree(story.folder / "out" / "champion", serve_from)
    service = Service(
        story, bundle="served", shadow_bundle="challenger", shadow_share=1, port=0, reload_seconds=0.5,
        trusted_proxies="127.0.0.1", labeller_keys=hashlib.sha256(KEY.encode()).hexdigest(),
        caller_secret=secrets.token_hex(),
    )  # fmt: skip
    life = Life(story, World(service.address, seed), serve_from)
    try:
        life.begin()
        life.drift()
        life.retrain()
        life.poison()
    finally:
        life.end(drawn)
        service.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m samples.lifecycle", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the writers and of the training")
    parser.add_argument(
        "--folder", type=Path, default=Path("out/lifecycle"), help="for the copy, which is deleted first"
    )
    parser.add_argument("--picture", type=Path, default=Path("out/lifecycle.png"))
    arguments = parser.parse_args()
    copied(arguments.folder)
    story = Story(arguments.folder)
    play(story, arguments.seed, arguments.picture)


if __name__ == "__main__":
    main()
