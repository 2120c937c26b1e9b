"""Counts words on a dask cluster: the steps run in its workers, szal keeps what became of them.

python examples/words_on_dask.py                       begins a cluster of two processes on this machine
python examples/words_on_dask.py tcp://scheduler:8786  or takes one that there is; its workers have to find this file

pip install "szal[dask]"
"""

import os
import sys
from collections import Counter

import szal

TEXTS = {
    "first": "the quick brown fox jumps over the lazy dog",
    "second": "the dog sleeps and the fox runs",
    "third": "a fox is no dog",
}

words = szal.Flow("words")


@words.step
def texts() -> list[str]:
    """A large output would be sent to the cluster once, however many items take it."""
    return list(TEXTS.values())


@words.step(foreach=texts, max_retries=2, retry_delay=0.1)
def count(item: str) -> dict[str, int]:
    """If its worker dies, that is one failed attempt: it is made again, on another one."""
    return {"process": os.getpid(), **Counter(item.split())}


@words.step
def total(count: list[dict[str, int]]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for each in count:
        found.update({word: number for word, number in each.items() if word != "process"})
    return dict(found.most_common(3))


def main(address: str | None) -> None:
    from distributed import LocalCluster
    from words_on_dask import words as found_by_import  # the workers do not have this __main__

    from szal.contrib.dask import DaskExecutor

    if address is None:
        with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
            main(cluster.scheduler_address)
            return
    with (
        DaskExecutor.connect(address) as executor,
        szal.Engine(found_by_import, szal.EngineConfig(executor=executor)) as engine,
    ):
        result = engine.run(found_by_import).raise_for_failure()
    print("counted elsewhere:", os.getpid() not in {each["process"] for each in result["count"].output})
    print(result["total"].output)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
