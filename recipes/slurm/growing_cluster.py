"""Despeckle a stack with SLURM jobs that start and end as the queue allows. See README.md."""

import argparse
from typing import Any

from sarstack.cluster.scheduler import PRELOAD
from sarstack.workflows.despeckle.run import despeckle
from sarstack.workflows.settings import DespeckleConfig


def open_cluster(queue: str | None, account: str | None, memory_gb: int, walltime: str) -> Any:
    """Open a scheduler on this machine; each SLURM job is one worker of one thread."""
    from dask_jobqueue import SLURMCluster

    return SLURMCluster(
        queue=queue, account=account, cores=1, processes=1, memory=f"{memory_gb}GB",
        walltime=walltime, nanny=False, worker_extra_args=["--no-dashboard"],
        job_extra_directives=["--requeue"], scheduler_options={"preload": PRELOAD},
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stack")
    parser.add_argument("output")
    parser.add_argument("--method", default="despecknet")
    parser.add_argument("--queue")
    parser.add_argument("--account")
    parser.add_argument("--jobs", type=int, default=40, help="jobs at a time")
    parser.add_argument("--memory-gb", type=int, default=3)
    parser.add_argument("--walltime", default="08:00:00")
    parser.add_argument("--dry-run", action="store_true", help="print the job script only")
    options = parser.parse_args()
    with open_cluster(
        options.queue, options.account, options.memory_gb, options.walltime
    ) as cluster:
        if options.dry_run:
            print(cluster.job_script())
            return
        # The same minimum and maximum: jobs that ended are submitted again. Dask's own choice of
        # a number looks at the submitted tasks. Those are three for each worker, so it would see no
        # need for more workers.
        cluster.adapt(minimum_jobs=options.jobs, maximum_jobs=options.jobs)
        cluster.wait_for_workers(1)
        config = DespeckleConfig.make(stack=options.stack, output=options.output,
                                      method=options.method,
                                      cluster=cluster.scheduler_address)  # fmt: skip
        despeckle(config).raise_failures()


if __name__ == "__main__":
    main()
