"""Jobs that are done by worker processes, some of which are killed."""

from __future__ import annotations

import logging.handlers
import os
import queue
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.jobs.jobs import JobStatus
from api.jobs.reconcile import reconcile
from api.jobs.supervisor import Supervisor
from api.jobs.worker import WorkerSettings
from api.store.tables import Task
from planner.options import make_options
from planner.pipelines.exported import plan_exported
from tests.api.graphs import graph
from tests.api.jobs import plant
from tests.api.jobs.plant import PATIENCE, Plant, wait
from tests.api.planning.processes import planning_pids


@pytest.fixture
def site(tmp_path: Path, database_url: str) -> Iterator[Plant]:
    with plant.running(tmp_path, database_url) as site:
        yield site


def _is_running(site: Plant, job: JobStatus) -> bool:
    return site.status(job.id).counts["running"] > 0


def test_every_item_of_a_matrix_is_planned_and_bad_input_fails_alone(site: Plant) -> None:
    choices = [make_options("bytes"), make_options("default", "latency")]
    site.hire()
    job = site.submit({"a.vkgraph": graph(8), "b.vkgraph": graph(12), "bad": b"text"}, choices)
    items = site.finished(job)
    status = site.status(job.id)
    assert status.counts["done"] == 4
    assert status.counts["failed"] == 2
    assert items["bad"].task.error == (
        "bad is not a zip archive: hand in a file written by torch.export.save, a lowered program "
        "(.pte, .bpte), or a VkGraph"
    )
    assert items["bad"].task.attempts == 1
    page = site.store.page()
    assert page.total == 4
    assert {plan.id for plan in page.plans} == {
        item.task.id for item in site.jobs.items(status) if item.plan is not None
    }
    assert all(plan.repack_cost < plan.baseline_repack_cost for plan in page.plans)


def test_nothing_is_imported_from_the_current_directory(
    site: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("api", "dbos", "sqlalchemy", "numpy", "torch"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    site.hire()
    (item,) = site.finished(site.submit({"a": graph(8)})).values()
    assert item.state == "done"
    assert not (tmp_path / "ran").exists()


def test_what_is_in_store_is_not_planned_again(site: Plant) -> None:
    site.hire()
    first = site.submit({"a": graph(8)})
    (item,) = site.finished(first).values()
    second = site.note({"other name": graph(8)})
    assert site.status(second.id).counts["done"] == 1
    assert site.jobs.queued(second.id) == []
    # Without its plan, a task that was done is to be done again.
    assert site.store.delete(item.task.id)
    third = site.submit({"a": graph(8)})
    assert site.finished(third)["a"].plan is not None


def test_a_program_is_lowered_once_for_all_options(site: Plant, conv: bytes, sort: bytes) -> None:
    site.hire()
    choices = [
        make_options("bytes"),
        make_options("bytes", without_layouts=["TENSOR_HEIGHT_PACKED"]),
        make_options("default", "latency"),
    ]
    job = site.submit({"net.pt2": conv, "sort.pt2": sort}, choices)
    site.finished(job)
    items = site.jobs.items(site.status(job.id))
    assert [item.state for item in items] == ["done"] * 3 + ["failed"] * 3
    assert {item.task.error for item in items[3:]} == {
        "sort.pt2 has no operator that the Vulkan delegate supports: there is nothing to plan"
    }
    (needed,) = {item.task.needs for item in items[:3]}
    assert needed is not None
    with site.store.database.reading() as session:
        lowering = session.get_one(Task, needed)
    assert (lowering.state, lowering.attempts) == ("done", 1)
    for item, options in zip(items[:3], choices, strict=True):
        total = plan_exported(conv, "net.pt2", options).report.total
        assert item.plan is not None
        assert (item.plan.kind, item.plan.source_name) == ("pt2", "net.pt2")
        assert item.plan.source_sha256 == site.store.blobs.put(conv)
        assert item.plan.repack_cost == total.repack_cost
        assert item.plan.baseline_repack_cost == total.baseline_repack_cost


def test_a_program_is_lowered_for_each_limits_that_are_asked_for(site: Plant) -> None:
    choices = [
        make_options(profile, texture_limits=limits)
        for profile in ("bytes", "default")
        for limits in (None, "2048,2048,2048")
    ]
    job = site.note({"net.pt2": b"PK as a zip archive begins"}, choices)
    needs = [item.task.needs for item in site.jobs.items(site.status(job.id))]
    assert None not in needs
    assert needs[0] == needs[2] != needs[1] == needs[3]


def test_workers_start_after_one_could_not_be_started(site: Plant) -> None:
    # Without a folder for a worker's files there, starting one fails.
    scratch = site.folder / "later"
    settings = WorkerSettings(str(site.folder / "data"), site.url, str(scratch), 60)
    logged: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler, logger = (
        logging.handlers.QueueHandler(logged),
        logging.getLogger(Supervisor.__module__),
    )
    logger.addHandler(handler)
    supervisor = Supervisor(1, settings)
    try:
        assert "FileNotFoundError" in logged.get(timeout=PATIENCE).getMessage()
        scratch.mkdir()
        wait(lambda: len(site.register.alive()) == 1)
    finally:
        supervisor.stop()
        logger.removeHandler(handler)


def test_the_task_of_a_worker_that_is_dead_is_done_by_another(site: Plant) -> None:
    first = site.hire()
    job, (stuck,) = site.submit_stuck(net=graph(8))
    wait(lambda: _is_running(site, job))
    (pid,) = first.pids()
    # Stopped, it is as one whose machine has gone, and is not started anew.
    wait(lambda: bool(planning_pids(pid)))
    for stopped in (pid, *planning_pids(pid)):
        os.kill(stopped, signal.SIGSTOP)
    site.hire()
    wait(lambda: site.items(job)["net"].task.attempts == 2)
    taken = site.items(job)["net"].task.worker_id
    stuck.let_go()
    item = site.finished(job)["net"]
    assert (item.state, item.task.worker_id) == ("done", taken)
    # As it wakes up it finds that it was given up, and ends.
    os.kill(pid, signal.SIGCONT)
    wait(lambda: pid not in first.pids())
    assert site.store.page().total == 1


def test_a_worker_that_is_killed_is_started_anew_and_leaves_no_process(site: Plant) -> None:
    workers = site.hire()
    job, (stuck,) = site.submit_stuck(net=graph(8))
    wait(lambda: _is_running(site, job))
    (pid,) = workers.pids()
    wait(lambda: bool(planning_pids(pid)))
    (planner,) = planning_pids(pid)
    plant.kill(pid)
    wait(lambda: not Path(f"/proc/{planner}").exists())
    wait(lambda: site.items(job)["net"].task.attempts == 2)
    stuck.let_go()
    assert site.finished(job)["net"].state == "done"


def test_workers_end_with_who_started_them_and_leave_at_once(site: Plant) -> None:
    workers = site.hire()
    job, (stuck,) = site.submit_stuck(net=graph(8))
    wait(lambda: _is_running(site, job))
    workers.stop()
    # It has left by itself: nothing waits until it counts as gone.
    assert site.register.alive() == []
    stuck.let_go()
    site.hire()
    assert site.finished(job)["net"].task.attempts == 2


def test_a_task_that_kills_its_process_is_tried_thrice_and_the_others_go_on(site: Plant) -> None:
    workers = site.hire()
    job, (stuck,) = site.submit_stuck(killer=graph(8))
    other = site.submit({"other": graph(12)})
    killed = set()

    def kill() -> bool:
        for worker in workers.pids():
            for pid in planning_pids(worker):
                if pid not in killed and _is_running(site, job):
                    killed.add(pid)
                    plant.kill(pid)
        return site.status(job.id).is_finished

    wait(kill)
    item = site.items(job)["killer"]
    assert len(killed) == 3
    assert (item.state, item.task.attempts) == ("failed", 3)
    assert item.task.error is not None
    assert "planning killer has been killed by SIGKILL" in item.task.error
    assert item.task.error.endswith("(3 times)")
    assert site.finished(other)["other"].state == "done"
    stuck.let_go()
    assert site.jobs.retry(job.id) == 1
    site.engine.start(site.jobs.queued(job.id))
    assert site.finished(job)["killer"].state == "done"


def test_a_task_that_takes_too_long_is_tried_thrice(site: Plant) -> None:
    site.hire(plan_seconds=0.3)
    job, _ = site.submit_stuck(endless=graph(8))
    error = site.finished(job)["endless"].task.error
    assert error is not None
    assert error.startswith("planning endless took longer than 0.3 s")
    assert error.endswith("(3 times)")


def test_a_job_is_cancelled_but_not_what_another_job_wants_and_can_be_retried(
    site: Plant,
) -> None:
    workers = site.hire()
    job, stuck = site.submit_stuck(one=graph(8), two=graph(12), three=graph(16))
    wait(lambda: _is_running(site, job))
    (worker,) = workers.pids()
    wait(lambda: bool(planning_pids(worker)))
    (planner,) = planning_pids(worker)
    for blob in stuck[1:]:
        blob.let_go()
    other = site.submit({"mine": graph(16)})
    site.engine.cancel(site.jobs.cancel(job.id))
    assert site.status(job.id).counts["cancelled"] == 3
    wait(lambda: not Path(f"/proc/{planner}").exists())
    assert site.finished(other)["mine"].state == "done"
    assert site.store.page().total == 1
    stuck[0].let_go()
    assert site.jobs.retry(job.id) == 2
    site.engine.start(site.jobs.queued(job.id))
    assert {item.state for item in site.finished(job).values()} == {"done"}
    assert site.store.page().total == 3


def test_a_job_that_was_noted_down_and_never_started_is_started(site: Plant) -> None:
    job = site.note({"net": graph(8)})
    site.hire()
    wait(lambda: bool(site.register.alive()))
    assert site.engine.statuses(site.jobs.queued(job.id)) == {}
    wait(lambda: bool(site.tasks.stale("queued", 2)))
    reconcile(site.tasks, site.engine)
    assert site.finished(job)["net"].state == "done"
