"""What XMP says of a picture's origin: the IPTC's mark, a link to C2PA, and Draw Things' settings.

Knows RDF as far as these three. Nothing that it names is fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

KEYWORD = "XML:com.adobe.xmp"
_SOURCE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
_PROVENANCE = "{http://purl.org/dc/terms/}provenance"
_COMMENT = "{http://ns.adobe.com/exif/1.0/}UserComment"


@dataclass(frozen=True, slots=True)
class Xmp:
    source_type: str = ""  # the last part of the IPTC's code, as trainedAlgorithmicMedia
    provenance: str = ""  # where a C2PA manifest is said to lie
    comment: str = ""


def read_xmp(text: str) -> Xmp | None:
    """None: it is no XML, or it declares a document type, which XMP never does and attacks do."""
    if "<!" in text.replace("<!--", ""):
        return None
    try:
        tree = ElementTree.fromstring(text.encode("utf-8", "replace").lstrip(b"\xef\xbb\xbf"))
    except ElementTree.ParseError:
        return None
    return Xmp(
        source_type=_value(tree, _SOURCE).rpartition("/")[2],
        provenance=_value(tree, _PROVENANCE),
        comment=_value(tree, _COMMENT),
    )


def _value(tree: ElementTree.Element, name: str) -> str:
    """RDF allows a property as an attribute or as an element, with its text in a list or directly."""
    for element in tree.iter():
        if name in element.attrib:
            return element.attrib[name].strip()
        if element.tag == name:
            resource = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}resource"
            return element.get(resource, "") or "".join(element.itertext()).strip()
    return ""
