"""The store on real servers, with a proxy between that does what networks and busy servers do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import stores
from builders import a_job, ok_row
from commands import orchestrate, write
from fake_executor import Clock
from stores import Proxy, Spoils, Store

import orchestrator
from orchestrator.commands.leftovers import remove_stored
from orchestrator.config import S3, Collect, DockerHost
from orchestrator.errors import BadResult, ExitCode, HostUnreachable, Incomplete, InputError
from orchestrator.executors.contract import Attempt
from orchestrator.executors.finding import Grade
from orchestrator.results import from_store
from orchestrator.runs.folder import Run
from orchestrator.runs.journal import Journal
from orchestrator.store.bucket import Bucket, Conditional
from orchestrator.store.check import check_store
from orchestrator.store.result_store import S3ResultStore
from runner.schema import Job, format_rows, parse_rows
from runner.wire.delivery import UploadGrant, put
from runner.wire.result_bundle import Receipt, ResultBundle, UploadStatus, digest

pytestmark = pytest.mark.s3
JOB = a_job(samples=(1, 2))


@pytest.fixture
def job(request: pytest.FixtureRequest) -> Job:
    """A job of a run of this test's own."""
    return replace(JOB, run=f"run-{abs(hash(request.node.name)):x}")


@pytest.fixture
def between(store: Store) -> Iterator[Proxy]:
    with stores.proxy(store) as proxy:
        yield proxy


def result_store_of(store: Store, url: str = "") -> S3ResultStore:
    """As `open` makes it, but for the loopback address, at which only these tests' containers are."""
    bucket = Bucket(store.s3(url=url))
    return S3ResultStore(bucket, bucket.conditional())


def upload_grant(result_store: S3ResultStore, attempt: Attempt, valid_s: float = 600) -> UploadGrant:
    return UploadGrant.from_json(result_store.upload_grant(attempt, valid_s))


def bundle(job: Job, *cases: str, exit_code: int = 0, latency_s: float = 0.5) -> ResultBundle:
    rows = [ok_row(job, case, latency_s) for case in job.cases if case.id in cases]
    return ResultBundle(job.run, job.id, format_rows(rows), "{}", exit_code)


def first(job: Job) -> Attempt:
    return Attempt(job.run, job.id, 1)


def no_sleep(_: float) -> None: ...


# --- one object, by one address


def test_what_an_upload_grant_put_is_taken_as_it_was(store: Store, job: Job) -> None:
    result_store, sent = result_store_of(store), bundle(job, "c1", "c2")
    receipt = put(upload_grant(result_store, first(job)), sent.to_bytes())
    assert (receipt.outcome, receipt.size, receipt.tries) == (UploadStatus.STORED, len(sent.to_bytes()), 1)
    assert result_store.take(first(job), receipt) == sent
    assert result_store.take(Attempt(job.run, job.id, 2)) is None
    assert f"sd/{job.run}/j/1/parcel.json" in store.objects()


@pytest.mark.parametrize("prefix", ["a b/50%25+c", "ü/x=1&y?z#"])
def test_a_prefix_of_any_characters_is_the_same_for_who_writes_lists_and_reads(
    store: Store, job: Job, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(store.s3(prefix))
    result_store = S3ResultStore(bucket, bucket.conditional())
    result_store.announce(job.run, [job])
    assert (
        put(upload_grant(result_store, first(job)), bundle(job, "c1", "c2").to_bytes()).outcome is UploadStatus.STORED
    )
    assert result_store.take(first(job)) == bundle(job, "c1", "c2")
    assert job.run in bucket.folders()
    assert f"{prefix}/{job.run}/j/1/parcel.json" in store.objects()
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert len(from_store.read(f"s3://bench/{prefix}/{job.run}").rows) == 2
    assert result_store.remove(job.run) == 2


def test_which_stores_have_conditional_writes_is_found_out_and_nothing_of_it_stays(
    rclone_store: Store, moto_store: Store, keys: None
) -> None:
    assert Bucket(rclone_store.s3("probed")).conditional() is Conditional.IGNORED
    assert Bucket(moto_store.s3("probed")).conditional() is Conditional.HONOURED
    for store in (rclone_store, moto_store):
        assert not [key for key in store.objects() if key.startswith("probed")]


def test_what_a_killed_trial_left_is_swept_by_a_later_one_and_what_is_fresh_is_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.client().put_object(Bucket="bench", Key="swept/.probe-left", Body=b"")
    Bucket(store.s3("swept")).conditional()
    assert "swept/.probe-left" in store.objects()
    monkeypatch.setattr("orchestrator.store.bucket.FORGOTTEN_S", -5.0)  # stamps are in whole seconds
    Bucket(store.s3("swept")).conditional()
    assert not [key for key in store.objects() if key.startswith("swept")]


def test_of_many_that_deliver_one_attempt_at_once_exactly_one_is_first(moto_store: Store, keys: None, job: Job) -> None:
    result_store = result_store_of(moto_store)
    one = upload_grant(result_store, first(job))
    bundles = [bundle(job, "c1", "c2", latency_s=0.1 * (1 + n)).to_bytes() for n in range(12)]
    with ThreadPoolExecutor(12) as pool:
        receipts = list(pool.map(lambda data: put(one, data), bundles))
    (winner,) = [receipt for receipt in receipts if receipt.outcome is UploadStatus.STORED]
    assert {receipt.outcome for receipt in receipts} == {UploadStatus.STORED, UploadStatus.TAKEN}
    taken = result_store.take(first(job), winner)
    assert taken is not None
    assert digest(taken.to_bytes()) == winner.sha256
    assert all(result_store.take(first(job), receipt) == taken for receipt in receipts)


def test_where_a_store_ignores_conditions_a_second_delivery_is_seen_by_the_firsts_receipt(
    rclone_store: Store, keys: None, job: Job
) -> None:
    result_store = result_store_of(rclone_store)
    one = upload_grant(result_store, first(job))
    before = put(one, bundle(job, "c1", "c2").to_bytes())
    after = put(one, bundle(job, "c1", "c2", latency_s=0.9).to_bytes())
    with pytest.raises(Incomplete, match=f"is not what the container delivered: .* {before.sha256[:12]}; somebody"):
        result_store.take(first(job), before)
    assert result_store.take(first(job), after) is not None


@pytest.mark.parametrize("spoil", ["another key", "another verb", "another type", "without the condition"])
def test_an_upload_grant_is_good_for_its_one_object_and_nothing_else(
    rclone_store: Store, keys: None, job: Job, spoil: str
) -> None:
    one = upload_grant(result_store_of(rclone_store), first(job))
    url, headers, verb = one.url, dict(one.headers), "PUT"
    match spoil:
        case "another key":
            url = url.replace("/1/parcel.json", "/2/parcel.json")
        case "another verb":
            verb = "GET"
        case "another type":
            headers["Content-Type"] = "text/html"
        case "without the condition":
            del headers["If-None-Match"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, b"x" if verb == "PUT" else None, headers, method=verb))
    refused.value.close()
    assert refused.value.code == 403
    assert not [key for key in rclone_store.objects() if job.run in key]


def test_an_upload_grant_ends_with_its_time_and_the_receipt_says_so_without_the_address(
    rclone_store: Store, keys: None, job: Job
) -> None:
    one = upload_grant(result_store_of(rclone_store), first(job), valid_s=1)
    time.sleep(2.5)
    receipt = put(one, b"x", sleep=no_sleep)
    assert receipt.outcome is UploadStatus.FAILED
    assert receipt.tries == 1
    assert receipt.error.startswith("400 AccessDenied: ")
    assert "the server's time" in receipt.error  # and not as XML writes it
    assert "Signature" not in receipt.error


# --- a bad day in between


@pytest.mark.parametrize("word", ["503", "429", "500", "cut", "slow"])
def test_what_passes_is_tried_again_until_it_is_there_once(between: Proxy, store: Store, job: Job, word: str) -> None:
    result_store, sent = result_store_of(store, between.url), bundle(job, "c1", "c2")
    between.fault = Spoils("PUT", word, word)
    receipt = put(upload_grant(result_store, first(job)), sent.to_bytes(), sleep=no_sleep)
    assert (receipt.outcome, receipt.tries) == (UploadStatus.STORED, 1 if word == "slow" else 3)
    assert result_store.take(first(job), receipt) == sent


def test_an_answer_that_got_lost_leaves_one_object_with_the_hash_of_the_receipt(
    between: Proxy, store: Store, job: Job
) -> None:
    result_store, sent = result_store_of(store, between.url), bundle(job, "c1", "c2")
    between.fault = Spoils("PUT", "lost")
    receipt = put(upload_grant(result_store, first(job)), sent.to_bytes(), sleep=no_sleep)
    honoured = result_store.conditional is Conditional.HONOURED
    assert receipt.outcome is (UploadStatus.TAKEN if honoured else UploadStatus.STORED)
    assert result_store.take(first(job), receipt) == sent
    assert digest(sent.to_bytes()) == receipt.sha256


def test_patience_ends_and_says_what_the_store_said_last(between: Proxy, store: Store, job: Job) -> None:
    result_store = result_store_of(store, between.url)
    between.fault = Spoils("PUT", *["503"] * 100)
    clock = Clock()
    receipt = put(upload_grant(result_store, first(job)), b"x", patience_s=2, sleep=clock.sleep, clock=clock)
    assert receipt.outcome is UploadStatus.FAILED
    assert receipt.tries > 1
    assert receipt.error == "503 SlowDown: Reduce your rate"


def test_a_server_that_is_not_there_is_told_without_its_address(store: Store, job: Job) -> None:
    one = upload_grant(result_store_of(store), first(job))
    gone = replace(one, url=one.url.replace(str(store.port), "1"))
    receipt = put(gone, b"x", patience_s=0.5)
    assert (receipt.outcome, receipt.error) == (
        UploadStatus.FAILED,
        "ConnectionRefusedError: [Errno 111] Connection refused",
    )


@pytest.mark.parametrize("words", [["503", "429", "500"], ["cut", "lost"], ["half", "half"], ["slow"]])
def test_what_passes_while_it_is_taken_is_tried_again(between: Proxy, store: Store, job: Job, words: list[str]) -> None:
    result_store, sent = result_store_of(store, between.url), bundle(job, "c1", "c2")
    receipt = put(upload_grant(result_store, first(job)), sent.to_bytes())
    between.fault = Spoils("GET", *words)
    assert result_store.take(first(job), receipt) == sent


def test_a_store_that_throttles_without_end_is_unreachable_and_no_fault_of_a_job(
    between: Proxy, store: Store, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.bucket.MOST_TRIES", 2)
    result_store = result_store_of(store, between.url)
    between.fault = Spoils("GET", *["503"] * 1000)
    with pytest.raises(HostUnreachable, match="asks to retry later: SlowDown, Reduce your rate"):
        result_store.take(first(job))


# --- what is there is not believed


@pytest.mark.parametrize(
    ("data", "wrong"),
    [(b"x" * (16 * 2**20 + 1), "larger than the 16777216 bytes"), (b"{}", "not a result bundle of version 1")],
)
def test_what_is_no_bundle_is_refused_with_where_it_lies(store: Store, job: Job, data: bytes, wrong: str) -> None:
    result_store = result_store_of(store)
    put(upload_grant(result_store, first(job)), data)
    with pytest.raises(BadResult, match=rf"{job.run}/j/1/parcel.json .*{wrong}"):
        result_store.take(first(job))


def test_a_bundle_of_another_job_is_refused(store: Store, job: Job) -> None:
    result_store = result_store_of(store)
    put(upload_grant(result_store, first(job)), bundle(replace(job, id="other"), "c1").to_bytes())
    with pytest.raises(BadResult, match=r"is of job other in run"):
        result_store.take(first(job))


# --- what a user has to fix is one message


def message(where: S3) -> str:
    with pytest.raises(InputError) as told:
        Bucket(where).folders()
    (problem,) = told.value.problems
    return problem


def test_wrong_keys_a_wrong_secret_and_no_keys_are_told_apart(
    rclone_store: Store, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = rclone_store.s3()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "the secret of the access key AKIDORCHESTRATORTEST is wrong" in message(where)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNOBODYNOBODYNOBO")
    assert "does not know the access key AKIDNOBODYNOBODYNOBO" in message(where)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "s3://bench: no credentials found; set AWS_PROFILE" in message(where)
    assert "s3://bench: The config profile (nobody) could not be found" in message(
        where.model_copy(update={"profile": "nobody"})
    )


def test_a_profile_brings_its_own_keys(
    rclone_store: Store, keys: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        f"[lab]\naws_access_key_id = {stores.KEY}\naws_secret_access_key = {stores.SECRET}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert Bucket(rclone_store.s3("empty").model_copy(update={"profile": "lab"})).folders() == []


def test_a_bucket_that_is_not_there_is_named(store: Store) -> None:
    missing = store.s3().model_copy(update={"bucket": "nowhere"})
    assert f"at {store.url}: there is no bucket nowhere; fix: make it, or correct `bucket`" in message(missing)


def test_a_clock_that_is_wrong_is_told_as_such(rclone_store: Store) -> None:
    script = (
        "import datetime, sys\nimport botocore.auth\nfrom botocore import compat\n"
        "late = lambda *_, **__: datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=2)\n"
        "botocore.auth.get_current_datetime = late\n"
        "from orchestrator.config import S3\nfrom orchestrator.store.bucket import Bucket\n"
        f"where = S3(bucket='bench', endpoint_url={rclone_store.url!r}, region='us-east-1')\n"
        "try:\n    Bucket(where).folders()\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )
    environ = {**os.environ, "AWS_ACCESS_KEY_ID": stores.KEY, "AWS_SECRET_ACCESS_KEY": stores.SECRET}
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environ, check=True)
    assert said.stdout.startswith("InputError")
    assert "this machine's clock is wrong" in said.stdout


def test_a_server_that_is_not_there_is_unreachable(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.store.bucket.MOST_TRIES", 2)
    with pytest.raises(HostUnreachable, match=r"at http://127\.0\.0\.1:1: the store does not answer"):
        Bucket(S3(bucket="bench", endpoint_url="http://127.0.0.1:1", region="us-east-1")).folders()


# --- what `hosts --check` says


def test_a_store_that_is_well_is_told_with_what_it_can(store: Store) -> None:
    found = list(check_store(store.s3("checked")))
    texts = [finding.text for finding in found if finding.grade is Grade.OK]
    assert any("answers, and may be listed" in text for text in texts)
    assert any("within 300 s of this machine's" in text for text in texts)
    assert any("may be written, read and deleted in" in text for text in texts)
    assert any("conditional writes" in text for text in texts)
    (problem,) = [finding for finding in found if finding.grade is Grade.PROBLEM]
    assert "the container's loopback" in problem.text
    assert not [key for key in store.objects() if key.startswith("checked")]


@pytest.mark.parametrize(("method", "right"), [("GET", "s3:ListBucket"), ("PUT", "s3:PutObject")])
def test_a_right_that_is_lacking_is_named_as_a_policy_has_it(between: Proxy, method: str, right: str) -> None:
    between.fault = lambda verb, path: "403" if verb == method else None
    found = list(check_store(between.store.s3(url=between.url)))
    (lacking,) = [finding for finding in found if right in finding.text]
    assert lacking.grade is Grade.PROBLEM
    assert "docs/s3.md" in lacking.text


# --- a run from the store alone


def announced(store: Store, job: Job) -> S3ResultStore:
    result_store = result_store_of(store)
    result_store.announce(job.run, [job])
    return result_store


@pytest.fixture
def elsewhere(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)


@pytest.mark.usefixtures("elsewhere")
def test_a_run_is_read_from_what_its_attempts_delivered_and_each_case_counts_once(store: Store, job: Job) -> None:
    result_store = announced(store, job)
    put(upload_grant(result_store, first(job)), bundle(job, "c1", exit_code=143).to_bytes())
    assert from_store.read(f"s3://bench/sd/{job.run}").missing == ("j",)
    put(upload_grant(result_store, Attempt(job.run, "j", 2)), bundle(job, "c1", "c2", latency_s=0.9).to_bytes())
    found = from_store.read(f"s3://bench/sd/{job.run}/")
    assert [(row.case, row.latency) for row in found.rows] == [("c1", 0.5), ("c2", 0.9)]
    assert found.missing == ()


@pytest.mark.usefixtures("elsewhere")
def test_rows_that_the_orchestrator_had_go_before_what_lies_in_the_inbox(store: Store, job: Job) -> None:
    result_store = announced(store, job)
    put(upload_grant(result_store, first(job)), bundle(job, "c1", "c2").to_bytes())
    result_store.keep_rows(job.run, [ok_row(job, job.cases[0], 0.7)])
    assert [(row.case, row.latency) for row in from_store.read(f"s3://bench/sd/{job.run}").rows] == [
        ("c1", 0.7),
        ("c2", 0.5),
    ]


@pytest.mark.usefixtures("elsewhere")
def test_a_folder_of_runs_means_the_newest(store: Store, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Bucket(store.s3(f"many/{job.run}"))
    for name in ("20260101-a", "20260301-a", "20260201-a"):
        S3ResultStore(bucket).announce(name, [replace(job, run=name)])
    bucket.put("20260401-not-a-run/x", b"")
    assert from_store.read(f"s3://bench/many/{job.run}").name == "20260301-a"
    with pytest.raises(InputError, match=r"there is no run; what is read is PREFIX/RUN/run\.json below it"):
        from_store.read("s3://bench/none/of/that")
    with pytest.raises(InputError, match="is not s3://BUCKET/PREFIX"):
        from_store.read("s3://")


def test_two_runs_of_one_name_are_told_before_either_spoils_the_other(store: Store, job: Job) -> None:
    result_store = announced(store, job)
    result_store.announce(job.run, [job])
    with pytest.raises(InputError, match=f"another run is called {job.run}; submit again"):
        result_store.announce(job.run, [replace(job, prompt="another")])


def test_a_run_announces_the_jobs_of_a_further_round_beside_the_others(store: Store, job: Job) -> None:
    result_store = announced(store, job)
    later = replace(job, id="later", round=4)
    result_store.announce(job.run, [job, later])
    with pytest.raises(InputError, match="another run is called"):
        result_store.announce(job.run, [later])


def test_removing_a_run_removes_its_objects_and_no_others(store: Store, job: Job) -> None:
    result_store = announced(store, job)
    put(upload_grant(result_store, first(job)), bundle(job, "c1").to_bytes())
    longer = replace(job, run=f"{job.run}-longer")
    result_store.announce(longer.run, [longer])
    assert result_store.remove(job.run) == 2
    assert [key for key in store.objects() if job.run in key] == [f"sd/{longer.run}/run.json"]
    assert result_store.remove(job.run) == 0


# --- as a user does it


@pytest.mark.usefixtures("elsewhere")
def test_results_prints_a_stored_run_where_nothing_of_it_is_on_this_machine(
    store: Store, job: Job, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result_store = announced(store, job)
    put(upload_grant(result_store, first(job)), bundle(job, "c1").to_bytes())
    assert orchestrate("results", f"s3://bench/sd/{job.run}", "-o", "json") == ExitCode.OK
    printed = capsys.readouterr()
    (host,) = json.loads(printed.out)["hosts"]
    assert host["name"] == "h"
    assert "1 rows" in printed.err
    assert "Not complete yet; missing: j" in printed.err
    assert not (here / "runs").exists()


@pytest.mark.usefixtures("elsewhere")
def test_the_library_loads_a_stored_run_and_warns_of_what_is_missing(store: Store, job: Job) -> None:
    result_store = announced(store, job)
    put(upload_grant(result_store, first(job)), bundle(job, "c1").to_bytes())
    address = f"s3://bench/sd/{job.run}"
    with pytest.warns(orchestrator.LoadWarning, match=f"{job.run} is not complete yet; missing: j"):
        frame = orchestrator.load(address, frame="polars")
    assert frame.select("case", "latency", "source").rows() == [("c1", 0.5, address)]


def inventory(**s3: str) -> Path:
    store = {"bucket": "bench", "region": "us-east-1", "insecure": True, **s3}
    host = {"kind": "docker", "url": "tcp://127.0.0.1:1", "gpus": "none", "collect": {"s3": store}}
    Path("hosts.yaml").write_text(json.dumps({"hosts": {"desk": host}}))
    return Path("hosts.yaml")


def test_a_store_that_is_not_there_is_told_before_anything_runs(
    store: Store, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory(bucket="nowhere", endpoint_url=f"http://{stores.own_address()}:{store.port}")
    assert orchestrate("submit", write("matrix: {samples: [1]}\n")) == ExitCode.BAD_INPUT
    said = capsys.readouterr().err
    assert said.count("error:") == 1
    assert "there is no bucket nowhere; fix: make it" in said
    assert not (here / "runs").exists()


def test_hosts_check_tells_of_the_store_beside_a_host_that_does_not_answer(
    store: Store, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory(endpoint_url=f"http://{stores.own_address()}:{store.port}", prefix="checked")
    assert orchestrate("hosts", "--check", "-o", "json") == ExitCode.SOME_FAILED
    found = json.loads(capsys.readouterr().out)["desk"]
    assert [each["grade"] for each in found if each["topic"] == "connection"] == ["problem"]
    assert {each["grade"] for each in found if each["topic"] == "store"} == {"ok"}


def test_cleaning_a_store_leaves_a_run_with_open_jobs_alone(store: Store, job: Job, tmp_path: Path) -> None:
    where = store.s3(url=f"http://{stores.own_address()}:{store.port}")
    host = DockerHost(name="desk", collect=Collect(s3=where))
    result_store = announced(store, job)
    put(upload_grant(result_store, first(job)), bundle(job, "c1").to_bytes())
    run = Run(tmp_path / job.run)
    run.path.mkdir()
    Journal.create(run.journal, run.name, [job], {}).close()
    with pytest.raises(InputError, match=rf"1 of its jobs are open, .* orchestrator resume {job.run}"):
        remove_stored(job.run, run, [host])
    assert remove_stored(job.run, None, [host]) == {result_store_of(store, str(where.endpoint_url)).bucket.name: 2}


def test_the_runner_itself_delivers_what_it_measured_and_when_it_is_ended_what_it_has(
    rclone_store: Store, keys: None, job: Job, tmp_path: Path
) -> None:
    result_store = result_store_of(rclone_store)
    many = replace(job, steps=1, repeats=1, max_repeats=1, warmup=0)
    endless = replace(many, id="endless", steps=100_000)
    for each in (many, endless):
        folder = tmp_path / each.id
        folder.mkdir()
        (folder / "job.json").write_text(each.to_json())
        (folder / "ticket").write_text(result_store.upload_grant(first(each), 600))
        environ = {**os.environ, "RUNNER_TICKET_FILE": str(folder / "ticket"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "runner", "--job", str(folder / "job.json")]
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as it:
            assert it.stdout is not None
            for line in it.stdout:
                if each is endless and '"case_started"' in line:
                    it.terminate()
        receipt = Receipt.from_line(line)
        taken = result_store.take(first(each), receipt)
        assert taken is not None
        assert receipt is not None
        assert digest(taken.to_bytes()) == receipt.sha256
        rows = [row.case for row in parse_rows(taken.results)]
        assert (rows, taken.exit_code) == ((["c1", "c2"], 0) if each is many else ([], 143))
        assert json.loads(taken.environment)
