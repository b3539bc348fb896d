"""The card as the Hub's own library and Croissant's read it, and what it never says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unlearnable.pipeline.data.card import check_card, hub_header, write_card
from unlearnable.pipeline.data.ledger import LedgerRecord
from unlearnable.pipeline.data.plan import Plan, ShardInput, config_hash
from unlearnable.pipeline.data.statements import HUB_LICENSES, TITLE, Statements

CONFIG = {"mem": {"method": "mem", "epsilon": 8}, "trigger_words": 3, "image_format": "same"}
SHARDS = (
    ShardInput("train-000", "hf://datasets/acme/photos/train-000.tar"),
    ShardInput("test-000", "hf://datasets/acme/photos/test-000.tar"),
)
PLAN = Plan(SHARDS, CONFIG, config_hash(CONFIG), "1.2.3")
STATED = Statements(
    owner="ACME archive | Lübeck",
    title="Boats: harbour photographs",
    license="CC-BY-NC-4.0",
    language=("en", "de"),
    usage=("Ask before you print them.", "https://acme.example/terms", "DUO:0000018"),
)


def reserving(plan: Plan) -> Plan:
    return replace(plan, config={**plan.config, "reserve": True})


def ledger(plan: Plan = PLAN, samples: int = 10) -> dict[str, LedgerRecord]:
    return {
        shard.name: LedgerRecord(
            shard.name, "committed", plan.config_hash, samples, samples - 2, 2, "a" * 64, 10240
        )
        for shard in plan.shards
    }


def written(folder: Path, stated: Statements, plan: Plan = PLAN) -> tuple[str, dict[str, Any]]:
    write_card(str(folder), plan, ledger(plan), stated)
    assert check_card(str(folder), plan, ledger(plan)) == []
    text = (folder / "croissant.json").read_text(encoding="utf-8")
    return (folder / "README.md").read_text(encoding="utf-8"), json.loads(text)


def test_the_hub_reads_the_header(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    readme, _ = written(tmp_path, STATED)
    data = hub.DatasetCard(readme).data
    assert data.pretty_name == "Boats: harbour photographs"
    assert (data.license, data.language) == ("cc-by-nc-4.0", ["en", "de"])
    assert data.source_datasets == ["acme/photos"]
    assert data.size_categories == ["n<1K"]
    assert "image-to-text" in data.task_categories
    assert "image-text-pairs" in data.tags
    assert {file["split"]: file["path"] for file in data.configs[0]["data_files"]} == {
        "train": "train-*.tar",
        "test": "test-*.tar",
    }
    assert "| Owner statement | ACME archive Lübeck |" in readme
    assert "Ask before you print them. https://acme.example/terms DUO:0000018" in readme


def test_what_the_owner_did_not_state_is_left_out(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    plan = replace(PLAN, shards=(ShardInput("a", "/home/someone/photos/a.tar"),))
    readme, croissant = written(tmp_path, Statements(), plan)
    data = hub.DatasetCard(readme).data
    assert data.pretty_name == TITLE
    assert (data.license, data.language, data.source_datasets) == (None, None, None)
    assert data.configs[0]["data_files"] == [{"split": "train", "path": "*.tar"}]
    assert "Conditions of use" not in readme
    assert "mining" not in readme + json.dumps(croissant)
    assert croissant["license"] == "Not stated"
    assert not {"inLanguage", "usageInfo", "tdm:reservation"} & croissant.keys()


@pytest.mark.parametrize(
    ("license_", "header"),
    [
        ("cc-by-4.0", {"license": "cc-by-4.0"}),
        ("https://a.example/l", {"license": "other", "license_link": "https://a.example/l"}),
        ("House terms", {"license": "other", "license_name": "House terms"}),
        ("", {}),
    ],
)
def test_a_licence_that_the_hub_does_not_know(license_: str, header: dict[str, str]) -> None:
    found = Statements(license=license_).hub()
    assert {name: found[name] for name in found if name.startswith("license")} == header
    assert "cc-by-4.0" in HUB_LICENSES


@pytest.mark.parametrize(
    ("samples", "category"),
    [
        (0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"),
        (5_000_000, "1M<n<10M"), (12_000_000_000, "10B<n<100B"), (10**12, "n>1T"),
    ],
)  # fmt: skip
def test_size_categories(samples: int, category: str) -> None:
    assert hub_header(PLAN, STATED, samples)["size_categories"] == [category]


def test_croissant_has_provenance_and_conditions(tmp_path: Path) -> None:
    _, croissant = written(tmp_path, STATED, reserving(PLAN))
    assert croissant["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    derived = croissant["prov:wasDerivedFrom"]
    assert [entity["prov:label"] for entity in derived] == ["hf://datasets/acme/photos"]
    activity = croissant["prov:wasGeneratedBy"]
    assert activity["prov:wasAssociatedWith"]["prov:label"] == "unlearnable 1.2.3"
    sentence, link, term, reservation = croissant["usageInfo"]
    assert sentence["description"] == STATED.usage[0]
    assert link["url"] == STATED.usage[1]
    assert (term["termCode"], term["url"]) == ("DUO_0000018", "duo:0000018")
    assert reservation["odrl:prohibition"]["odrl:action"] == {"@id": "tdm:mine"}
    assert croissant["tdm:reservation"] == 1


def test_croissant_is_valid_by_its_own_library(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    _, croissant = written(tmp_path, STATED, reserving(PLAN))
    dataset = mlcroissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    assert caplog.text == ""
    assert dataset.metadata.license == ["CC-BY-NC-4.0"]
    assert dataset.metadata.in_language == ["en", "de"]
    assert [file.name for file in dataset.metadata.file_objects] == [
        "train-000.tar",
        "test-000.tar",
    ]
    # As a graph: the terms of other vocabularies are where their own prefixes lead.
    rdflib = pytest.importorskip("rdflib")
    graph = rdflib.Graph().parse(data=json.dumps(croissant), format="json-ld")
    odrl, prov = "http://www.w3.org/ns/odrl/2/", "http://www.w3.org/ns/prov#"
    mine = rdflib.URIRef("http://www.w3.org/ns/tdmrep#mine")
    assert list(graph.subjects(rdflib.URIRef(f"{odrl}action"), mine))
    assert list(graph.objects(predicate=rdflib.URIRef(f"{prov}wasDerivedFrom")))


def test_a_card_that_hides_a_reservation_is_told(tmp_path: Path) -> None:
    written(tmp_path, STATED, PLAN)
    found = check_card(str(tmp_path), reserving(PLAN), ledger())
    assert len([problem for problem in found if "does not describe" in problem]) == 2


def test_statements_come_back(tmp_path: Path) -> None:
    _, croissant = written(tmp_path, STATED, reserving(PLAN))
    assert Statements.read(croissant) == STATED
    assert Statements.read({"creator": [], "usageInfo": "x", "inLanguage": 3}).language == ("3",)
