"""The chain of Slurm jobs of `make slurm-smoke`, before a Slurm that only notes what it is given."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

#: Notes its arguments and answers with the number of the job.
SBATCH = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$NOTED"
wc -l < "$NOTED"
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder with every program that the script needs, but Slurm's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env", "realpath", "dirname", "mkdir", "cat", "tail", "wc"):
        found = next(p for p in (Path("/usr/bin", name), Path("/bin", name)) if p.exists())
        (folder / name).symlink_to(found)
    return folder


def run(repository: Path, tools: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    path = repository / "tests" / "slurm_smoke.sh"
    script = path.read_text().replace("PATH=$PATH:/usr/sbin", "")
    environment = {"PATH": str(tools), "NOTED": str(folder / "noted")}
    command = [
        "bash",
        "-c",
        script,
        str(repository / "tests" / "slurm_smoke.sh"),
        "PYTHON",
        str(folder),
        "seed=5",
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_without_slurm_one_line_says_what_is_missing(repository: Path, tools: Path, tmp_path: Path) -> None:
    ended = run(repository, tools, tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "error: no sbatch here: install slurm-wlm and munge (Debian's names)."
    ]


def test_shards_wait_for_training_and_the_report_for_all_shards(
    repository: Path, tools: Path, tmp_path: Path
) -> None:
    for name, text in (("sbatch", SBATCH), ("sinfo", "#!/usr/bin/env bash\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tmp_path / "report-4.log").write_text("the report")
    ended = run(repository, tools, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "the report"), ended.stderr
    jobs = (tmp_path / "noted").read_text().splitlines()
    found = [
        (
            re.search(r"scripts/(\w+)\.py", job)[1],
            re.findall(r"--dependency=(\S+)", job),
            re.findall(r"--array=(\S+)", job),
            re.findall(r" shard=(\S+)", job),
            "--wait" in job,
        )
        for job in jobs
    ]
    shards = ["$SLURM_ARRAY_TASK_ID/2"]
    assert found == [
        ("finetune", [], [], [], False),
        ("attribute", ["afterok:1"], ["0-1"], shards, False),
        ("degrade", ["afterok:2"], ["0-1"], shards, False),
        ("report", ["afterok:3"], [], [], True),
    ]
    assert all(f"preset=smoke paths.results={tmp_path}/results" in job and " seed=5 " in job for job in jobs)
    assert all("--kill-on-invalid-dep=yes" in job for job in jobs), "a chain with a broken link must not wait"
