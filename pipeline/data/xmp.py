"""XMP packets: left as they came, but for thumbnails, location on request, and a reservation."""

import re
from collections.abc import Iterator
from typing import NamedTuple
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from .formats import is_coded_picture

PROHIBITED = "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED"
"""Value of ``plus:DataMining``: data mining is prohibited (PLUS LDF 2.0.1, IPTC 2023.1)."""

_MOST_BYTES = 4 << 20
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PLUS = "http://ns.useplus.org/ldf/xmp/1.0/"
_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_XMP, _GIMG = "http://ns.adobe.com/xap/1.0/", "http://ns.adobe.com/xap/1.0/g/img/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_GAIN_MAP = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.apple.com/HDRGainMap/1.0/",
)
_DEPTH = ("http://ns.google.com/photos/1.0/image/", "http://ns.google.com/photos/1.0/depthmap/")
_PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
_IPTC_CORE = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
_IPTC_EXT = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_PLACES = {
    (_PHOTOSHOP, "City"), (_PHOTOSHOP, "State"), (_PHOTOSHOP, "Country"),
    (_IPTC_CORE, "Location"), (_IPTC_CORE, "CountryCode"),
    (_IPTC_EXT, "LocationCreated"), (_IPTC_EXT, "LocationShown"),
    (_TIFF, "Make"), (_TIFF, "Model"), (_EXIF, "MakerNote"),
}  # fmt: skip
_DEVICE = ("http://ns.adobe.com/exif/1.0/aux/", "http://cipa.jp/exif/1.0/")
# What may have to go, as bytes: a packet without any stays as it came.
_SUSPECT = re.compile(
    rb"tiff/1\.0/|/g/img/|Thumbnails|xmp/note/|gain-map|HDRGainMap|photos/1\.0/|/9j/|iVBORw0KGgo"
    rb"|R0lGOD|UklGR|<!"
)
_HEAD = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
_CC_SPACE, _RIGHTS = "http://creativecommons.org/ns#", "http://ns.adobe.com/xap/1.0/rights/"
_LICENSES = {(_CC_SPACE, "license"), (_RIGHTS, "UsageTerms"), (_RIGHTS, "WebStatement")}
# An identifier of Creative Commons as the Hub writes it.
_CC = re.compile(r"cc-(by(?:-nc)?(?:-nd|-sa)?)-(\d\.\d)")
_EMPTY = (
    f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
    '<rdf:Description rdf:about=""/></rdf:RDF></x:xmpmeta>'
)


class Edits(NamedTuple):
    """What a run changes in metadata.

    Attributes:
        drop_location: takes out places and what names the device.
        reserve: states that data mining is prohibited.
        license: is stated where a picture has no licence; an identifier, a URL or a name.
    """

    drop_location: bool = False
    reserve: bool = False
    license: str = ""


NO_EDITS = Edits()


def edit_xmp(data: bytes, edits: Edits = NO_EDITS) -> tuple[bytes, set[str]]:
    """Return a packet without pictures in it, upright, and what was taken out.

    Args:
        data: the packet; empty for none.
        edits: what the run changes.

    Returns:
        the packet, byte for byte as it came when nothing had to change, and names of notes.
    """
    changes = edits.drop_location or edits.reserve or _SUSPECT.search(data) is not None
    if not changes or (not data and not edits.reserve):
        return data, set()
    notes: set[str] = set()
    try:
        root = _parse(data or _EMPTY.encode())
    except (ExpatError, ValueError, LookupError, RecursionError):
        notes.add("metadata_dropped")
        if not edits.reserve:
            return b"", notes
        root = _parse(_EMPTY.encode())
    found = _clean(root, drop_location=edits.drop_location)
    if edits.reserve:
        _reserve(root, edits.license)
    elif not found:
        return data, notes
    text = f'{_HEAD}{root.toxml()}<?xpacket end="w"?>'
    return text.encode(errors="replace"), notes | (found - {"orientation"})


def _parse(data: bytes) -> minidom.Element:
    if b"<!" in data or len(data) > _MOST_BYTES:
        raise ValueError("declarations, or too large")
    # Entities cannot be declared here, and expat refuses those that grow without bound.
    root = minidom.parseString(data.strip(b"\0 \r\n\t")).documentElement  # noqa: S318
    if root is None or not root.getElementsByTagNameNS(_RDF, "Description"):
        raise ValueError("no description")
    return root


def _elements(root: minidom.Element) -> Iterator[minidom.Element]:
    yield from [root, *root.getElementsByTagName("*")]


def _attributes(element: minidom.Element) -> list[minidom.Attr]:
    return list((element.attributes or {}).values())


def _text(node: minidom.Element | minidom.Attr) -> str:
    if isinstance(node, minidom.Attr):
        return node.value
    parts = [child.data for child in node.childNodes if isinstance(child, minidom.Text)]
    return "".join(parts) + node.getAttributeNS(_RDF, "resource")


def _clean(root: minidom.Element, *, drop_location: bool) -> set[str]:
    notes: set[str] = set()
    for element in list(_elements(root)):
        for attribute in _attributes(element):
            if note := _note_of(attribute, drop_location=drop_location):
                element.removeAttributeNode(attribute)
                notes.add(note)
        note = _note_of(element, drop_location=drop_location)
        if note and element.parentNode is not None and element is not root:
            element.parentNode.removeChild(element)
            notes.add(note)
    return notes


def _note_of(node: minidom.Element | minidom.Attr, *, drop_location: bool) -> str:
    """Return why a property must go; empty when it stays."""
    space, name = node.namespaceURI or "", node.localName or ""
    if (space, name) == (_TIFF, "Orientation"):
        return "orientation"
    if space in _GAIN_MAP:
        return "gain_map_dropped"
    if (space, name) == (_XMP, "Thumbnails") or space in (_GIMG, *_DEPTH) or _holds_picture(node):
        return "thumbnail_dropped"
    if (space, name) == (_NOTE, "HasExtendedXMP"):
        return "metadata_dropped"
    place = (space == _EXIF and name.startswith("GPS")) or (space, name) in _PLACES
    return "location_dropped" if drop_location and (place or space in _DEVICE) else ""


def _holds_picture(node: minidom.Element | minidom.Attr) -> bool:
    return is_coded_picture(_text(node))


def _reserve(root: minidom.Element, terms: str) -> None:
    for element in list(_elements(root)):
        if element.hasAttributeNS(_PLUS, "DataMining"):
            element.removeAttributeNS(_PLUS, "DataMining")
        if (element.namespaceURI, element.localName) == (_PLUS, "DataMining"):
            assert element.parentNode is not None
            element.parentNode.removeChild(element)
    document = root.ownerDocument
    first = root.getElementsByTagNameNS(_RDF, "Description")[0]
    assert document is not None
    stated = document.createElementNS(_PLUS, "plus:DataMining")
    stated.setAttribute("xmlns:plus", _PLUS)
    stated.appendChild(document.createTextNode(PROHIBITED))
    first.appendChild(stated)
    if terms and not any(map(_is_license, _nodes(root))):
        first.appendChild(_license(document, terms))


def _nodes(root: minidom.Element) -> Iterator[minidom.Element | minidom.Attr]:
    for element in _elements(root):
        yield element
        yield from _attributes(element)


def _is_license(node: minidom.Element | minidom.Attr) -> bool:
    return (node.namespaceURI, node.localName) in _LICENSES


def _license(document: minidom.Document, terms: str) -> minidom.Element:
    """Return a licence as a property: of Creative Commons where it is a URL, else in words."""
    known = _CC.fullmatch(terms.lower())
    url = f"https://creativecommons.org/licenses/{known[1]}/{known[2]}/" if known else terms
    if url.startswith(("https://", "http://")):
        element = document.createElementNS(_CC_SPACE, "cc:license")
        element.setAttribute("xmlns:cc", _CC_SPACE)
        element.setAttributeNS(_RDF, "rdf:resource", url)
        element.setAttribute("xmlns:rdf", _RDF)
        return element
    element = document.createElementNS(_RIGHTS, "xmpRights:UsageTerms")
    element.setAttribute("xmlns:xmpRights", _RIGHTS)
    element.setAttribute("xmlns:rdf", _RDF)
    choices = element.appendChild(document.createElementNS(_RDF, "rdf:Alt"))
    text = choices.appendChild(document.createElementNS(_RDF, "rdf:li"))
    text.setAttribute("xml:lang", "x-default")
    text.appendChild(document.createTextNode(terms))
    return element
