from __future__ import annotations

from builders import a_row

from orchestrator.report.environment import environment


def test_what_differs_between_hosts_comes_first() -> None:
    one, other = a_row("a", driver="580.1", torch="2.11"), a_row("b", driver="570.2", torch="2.11")
    found = environment({"a": ([one], []), "b": ([other], [])})
    assert found.hosts == ("a", "b")
    assert (found.facts[0].name, found.facts[0].values, found.facts[0].differs) == ("driver", ("580.1", "570.2"), True)
    assert not any(fact.differs for fact in found.facts[1:])


def test_a_fact_that_a_host_does_not_state_is_no_difference() -> None:
    found = environment({"a": ([a_row("a", driver="580.1")], []), "b": ([a_row("b")], [])})
    fact = next(fact for fact in found.facts if fact.name == "driver")
    assert (fact.values, fact.differs) == (("580.1", None), False)


def test_several_values_of_one_host_are_all_listed() -> None:
    found = environment({"a": ([a_row("a", torch="2.11"), a_row("a", torch="2.9")], [])})
    assert next(fact.values for fact in found.facts if fact.name == "torch") == ("2.11, 2.9",)


def test_the_documents_of_jobs_give_machine_and_packages() -> None:
    document = {
        "os": "Ubuntu 24.04",
        "machine": {"memory_bytes": 64 << 30, "gpus": [{"name": "H200", "memory_bytes": 140 << 30}] * 2},
        "packages": {"transformers": "5.17.0", "torch": "2.11"},
    }
    facts = {fact.name: fact.values[0] for fact in environment({"a": ([a_row("a")], [document])}).facts}
    assert facts["operating system"] == "Ubuntu 24.04"
    assert facts["memory"] == "64.0 GiB"
    assert facts["GPUs"] == "2 × H200, 140.0 GiB"
    assert facts["transformers"] == "5.17.0"
    assert "torch" not in facts


def test_a_foreign_document_of_another_shape_is_harmless() -> None:
    document = {"machine": [1], "packages": "none", "os": {"a": 1}, "kernel": "6\x1b[31m.1\u202e", "process": None}
    facts = {fact.name: fact.values[0] for fact in environment({"a": ([a_row("a")], [document])}).facts}
    assert facts["kernel"] == "6.1"
    assert "operating system" not in facts
