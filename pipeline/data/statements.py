"""What an owner states of a published copy, in the terms of the Hub and of Croissant 1.1.

Nothing is filled in: what the owner did not state, and what no run records, is left out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

NO_OWNER = "not stated"
NO_LICENSE = "Not stated"
TITLE = "A protected copy of an image-caption corpus"
RESERVED = "Text and data mining is reserved"
_RESERVED_TEXT = (
    "The rights holder reserves reproductions and extractions for text and data mining, as Article "
    "4(3) of Directive (EU) 2019/790 allows."
)
_DUO = re.compile(r"DUO[:_](\d{7})")
_URL = re.compile(r"https?://\S+")
# Identifiers of the Hub for licences that collections have; the Hub refuses what it does not know.
HUB_LICENSES = frozenset({
    "afl-3.0", "apache-2.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0",
    "etalab-2.0", "gfdl", "mit", "odbl", "odc-by", "pddl", "unknown", "unlicense",
})  # fmt: skip


# No postponed annotations: options of the command line are made of these fields.
@dataclass(frozen=True, kw_only=True)
class Statements:
    """What the card repeats of its owner."""

    owner: str = ""
    """Who publishes the copy; printed in its card."""
    title: str = ""
    """Name of the copy in its card."""
    license: str = ""
    """Licence of the copy in its card: an identifier such as cc-by-4.0, a URL, or a name."""
    language: tuple[str, ...] = ()
    """Languages of the captions in the card, as ISO 639 codes."""
    usage: tuple[str, ...] = ()
    """Conditions of use in the card: sentences, URLs, or terms of the Data Use Ontology such as
    DUO:0000018."""

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """Take the statements from the head of a Croissant document, as `croissant` wrote them."""
        creator = document.get("creator")
        owner = creator.get("name") if isinstance(creator, dict) else ""
        name, terms = str(document.get("name", "")), str(document.get("license", ""))
        return cls(
            owner="" if owner == NO_OWNER else str(owner or ""),
            title="" if name == TITLE else name,
            license="" if terms == NO_LICENSE else terms,
            language=tuple(map(str, _list(document.get("inLanguage")))),
            usage=tuple(filter(None, map(_read_usage, _list(document.get("usageInfo"))))),
        )

    def croissant(self, *, reserved: bool) -> dict[str, Any]:
        """Return the fields of a Croissant document that hold them.

        Args:
            reserved: whether text and data mining is reserved.
        """
        usage = [*map(_usage, self.usage), *([_reservation()] if reserved else [])]
        return {
            "name": self.title or TITLE,
            "license": self.license or NO_LICENSE,
            "creator": {"@type": "sc:Organization", "name": self.owner or NO_OWNER},
            **({"inLanguage": list(self.language)} if self.language else {}),
            **({"usageInfo": usage} if usage else {}),
            **({"tdm:reservation": 1} if reserved else {}),
        }

    def hub(self) -> dict[str, Any]:
        """Return the fields of a dataset card's YAML header that hold them."""
        found: dict[str, Any] = {"pretty_name": self.title or TITLE}
        if self.language:
            found["language"] = list(self.language)
        if self.license.lower() in HUB_LICENSES:
            found["license"] = self.license.lower()
        elif self.license:
            key = "license_link" if _URL.fullmatch(self.license) else "license_name"
            found |= {"license": "other", key: self.license}
        return found

    def facts(self, *, reserved: bool) -> dict[str, str]:
        """Return them for people, by name, without those that are not there."""
        usage = [*self.usage, *([_RESERVED_TEXT] if reserved else [])]
        shown = {
            "Owner statement": self.owner or NO_OWNER,
            "Licence": self.license or "not stated",
            "Language of the captions": ", ".join(self.language),
            "Conditions of use": " ".join(usage),
        }
        lines = {name: " ".join(text.replace("|", " ").split()) for name, text in shown.items()}
        return {name: text for name, text in lines.items() if text}


def _usage(text: str) -> dict[str, Any]:
    """Return a condition of use as Croissant 1.1 has it ("Data Use Conditions")."""
    term = _DUO.fullmatch(text)
    if term is not None:
        code = f"DUO_{term[1]}"
        return {"@type": "sc:DefinedTerm", "name": text, "termCode": code, "url": f"duo:{term[1]}"}
    key = "url" if _URL.fullmatch(text) else "description"
    return {"@type": "sc:CreativeWork", "name": "Conditions of use", key: text}


def _read_usage(found: Any) -> str:
    if not isinstance(found, dict) or found.get("name") == RESERVED:
        return ""
    key = "name" if "termCode" in found else "url" if "url" in found else "description"
    return str(found.get(key, ""))


def _reservation() -> dict[str, Any]:
    """Return the reservation as a policy (ODRL, with the term of the TDM Reservation Protocol)."""
    return {
        "@type": ["sc:CreativeWork", "odrl:Offer"],
        "name": RESERVED,
        "description": _RESERVED_TEXT,
        "odrl:prohibition": {
            "@type": "odrl:Prohibition",
            "odrl:action": {"@id": "tdm:mine"},
        },
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
