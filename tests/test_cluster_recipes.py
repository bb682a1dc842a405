"""recipes/slurm and recipes/kubernetes: names fit together, options exist, the script runs."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from simulated_stack import SimulatedStack

RECIPES = Path(__file__).parents[1] / "recipes"
SBATCH = RECIPES / "slurm" / "despeckle.sbatch"

SRUN = """#!/bin/bash
# Start a command as often as --ntasks says, on this machine; SIGTERM ends all, as of srun.
n=1
while [[ $1 == --* ]]; do
    case $1 in
        --ntasks=*) n=${1#--ntasks=} ;;
        --exact|--overlap|--kill-on-bad-exit=0) ;;
        *) echo "unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
trap 'kill -9 $(jobs -p)' TERM
for ((i = 0; i < n; i++)); do "$@" & done
wait
wait
"""


def read_manifest() -> dict[str, dict[str, Any]]:
    """Return the objects of the manifest by kind and name."""
    text = (RECIPES / "kubernetes" / "despeckle.yaml").read_text(encoding="utf-8")
    return {f"{o['kind']}/{o['metadata']['name']}": o for o in yaml.safe_load_all(text)}


def list_options(words: list[str]) -> set[str]:
    """Return the long options of a command of Dask or sarstack."""
    import distributed.cli.dask_scheduler
    import distributed.cli.dask_worker

    from sarstack.cli.despeckle import despeckle_command

    programs = {
        "dask scheduler": distributed.cli.dask_scheduler.main,
        "dask worker": distributed.cli.dask_worker.main,
        "sarstack despeckle": despeckle_command,
    }
    params = programs[" ".join(words[:2])].params
    return {name for p in params for name in (*p.opts, *p.secondary_opts)}


def assert_options_exist(words: list[str]) -> None:
    used = {word for word in words if word.startswith("--")}
    assert used <= list_options(words), words


def test_the_options_in_the_manifest_exist() -> None:
    pods = [o["spec"]["template"]["spec"] for o in read_manifest().values()
            if "template" in o["spec"]]  # fmt: skip
    commands = [pod["containers"][0]["command"] for pod in pods]
    assert sorted(command[:2] for command in commands) == [
        ["dask", "scheduler"], ["dask", "worker"], ["sarstack", "despeckle"],
    ]  # fmt: skip
    for command in commands:
        assert all(isinstance(word, str) for word in command)
        assert_options_exist(command)


def test_the_objects_of_the_manifest_fit_together() -> None:
    objects = read_manifest()
    service = objects["Service/sarstack-scheduler"]
    deployments = {k: o for k, o in objects.items() if k.startswith("Deployment")}
    for deployment in deployments.values():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
    scheduler = deployments["Deployment/sarstack-scheduler"]["spec"]["template"]
    assert service["spec"]["selector"] == scheduler["metadata"]["labels"]
    [port] = service["spec"]["ports"]
    [container] = scheduler["spec"]["containers"]
    assert container["ports"] == [{"name": port["targetPort"], "containerPort": port["port"]}]
    address = f"tcp://{service['metadata']['name']}:{port['port']}"
    for name in ("Deployment/sarstack-workers", "Job/sarstack-despeckle"):
        pod = objects[name]["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert address in container["command"]
        assert [m["name"] for m in container["volumeMounts"]] == [
            volume["name"] for volume in pod["volumes"]
        ]


def test_the_options_in_the_slurm_script_exist() -> None:
    text = SBATCH.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"(?:dask|sarstack) (?:scheduler|worker|despeckle) .*", text)
    commands = [shlex.split(line.rstrip("&")) for line in found if not line.endswith("`")]
    assert len([c for c in commands if c[0] == "dask"]) == 2
    for command in commands:
        assert_options_exist(command)


def test_the_jobs_of_slurm_are_workers_of_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("dask_jobqueue")
    recipe = runpy.run_path(str(RECIPES / "slurm" / "growing_cluster.py"))
    with recipe["open_cluster"]("short", "me", 3, "01:00:00") as cluster:
        script = cluster.job_script()
    assert "#SBATCH -p short" in script
    assert "--nthreads 1" in script
    assert "--no-nanny" in script


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_slurm_script_runs_to_its_end(
    make_stack: Callable[..., SimulatedStack], tmp_path: Path
) -> None:
    stack = make_stack((60, 70), 2)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "srun").chmod(0o755)
    paths = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = os.environ | {
        "PATH": os.pathsep.join(paths), "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4",
        "PYTHONPATH": str(RECIPES.parent),
    }  # fmt: skip
    command = ["bash", str(SBATCH), str(stack.folder), str(tmp_path / "out"), "--method", "lee"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True,
                          timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.tif"))) == 4
    assert not list(tmp_path.glob(".sarstack-*.json"))
