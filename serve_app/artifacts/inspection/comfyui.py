"""ComfyUI's graph of nodes, read backwards from the sampler to the words.

Knows nodes by their inputs and not by their names, since most are made by third parties.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from serve_app.artifacts.inspection.recipe import Recipe, number, text, whole

_MOST_NODES = 2_000
_WORDS = ("text", "text_g", "string", "prompt", "value", "wildcard_text", "positive", "negative")

Node = dict[str, Any]


def read_graph(graph: Any) -> Recipe | None:
    """`graph`: node id -> {class_type, inputs}. None: no node samples."""
    if not isinstance(graph, dict):
        return None
    nodes: dict[str, Node] = {
        str(name): node["inputs"]
        for name, node in list(graph.items())[:_MOST_NODES]
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }
    for name, inputs in nodes.items():
        if ("seed" in inputs or "noise_seed" in inputs) and "steps" in inputs:
            return _of_sampler(nodes, name)
    if any("noise" in inputs and "sigmas" in inputs for inputs in nodes.values()):
        return _of_custom_sampler(nodes)
    return None


def _of_sampler(nodes: dict[str, Node], name: str) -> Recipe:
    inputs = nodes[name]
    width, height = _size(nodes, inputs)
    return Recipe(
        program="comfyui",
        prompt=_words(nodes, inputs.get("positive"), "positive"),
        negative_prompt=_words(nodes, inputs.get("negative"), "negative"),
        seed=whole(_value(nodes, inputs.get("seed", inputs.get("noise_seed")))),
        steps=whole(_value(nodes, inputs["steps"])),
        guidance_scale=number(_value(nodes, inputs.get("cfg"))),
        sampler=text(_value(nodes, inputs.get("sampler_name"))),
        schedule=text(_value(nodes, inputs.get("scheduler"))),
        model=_model(nodes, inputs),
        width=width,
        height=height,
    )


def _of_custom_sampler(nodes: dict[str, Node]) -> Recipe:
    """SamplerCustomAdvanced: noise, guider, sampler and sigmas are nodes of their own."""
    inputs = next(node for node in nodes.values() if "noise" in node and "sigmas" in node)
    near = [node for _, node in _upstream(nodes, inputs)]

    def first(key: str) -> Any:
        return next((_value(nodes, node[key]) for node in near if key in node), None)

    width, height = _size(nodes, inputs)
    guider = nodes.get(_source(inputs.get("guider")) or "", {})
    return Recipe(
        program="comfyui",
        prompt=_words(nodes, guider.get("positive", guider.get("conditioning")), "positive"),
        negative_prompt=_words(nodes, guider.get("negative"), "negative"),
        seed=whole(first("noise_seed")),
        steps=whole(first("steps")),
        guidance_scale=number(first("cfg")),
        sampler=text(first("sampler_name")),
        schedule=text(first("scheduler")),
        model=_model(nodes, inputs),
        width=width,
        height=height,
    )


def _words(nodes: dict[str, Node], link: Any, side: str) -> str:
    """The first text on the way up. A node that joins both sides is entered by the side asked for."""
    for _, inputs in _upstream(nodes, {"from": link}, side):
        for key in _WORDS:
            if key in ("positive", "negative") and key != side:
                continue
            if found := text(_value(nodes, inputs.get(key))):
                return found
    return ""


def _model(nodes: dict[str, Node], inputs: Node) -> str:
    for _, node in _upstream(nodes, {"model": inputs.get("model", inputs.get("guider"))}):
        for key in ("ckpt_name", "unet_name", "model_name"):
            if found := text(node.get(key)):
                return found
    return ""


def _size(nodes: dict[str, Node], inputs: Node) -> tuple[int | None, int | None]:
    for _, node in _upstream(nodes, {"latent": inputs.get("latent_image")}):
        width, height = (whole(_value(nodes, node.get(side))) for side in ("width", "height"))
        if width and height:
            return width, height
    return None, None


def _upstream(nodes: dict[str, Node], inputs: Node, side: str = "") -> Iterator[tuple[str, Node]]:
    """Every node that `inputs` depend on, the nearest first, each once."""
    other = {"positive": "negative", "negative": "positive"}.get(side)
    waiting, seen = [inputs], set[str]()
    for here in waiting:
        for key, value in here.items():
            source = _source(value)
            if source in nodes and source not in seen and key != other:
                seen.add(source)
                waiting.append(nodes[source])
                yield source, nodes[source]


def _value(nodes: dict[str, Node], value: Any) -> Any:
    """The value itself, or that of the primitive node that it is linked to."""
    source = _source(value)
    if source is None:
        return value
    node = nodes.get(source, {})
    for key in (*_WORDS, "seed", "noise_seed", "int", "float", "number"):
        if key in node and _source(node[key]) is None:
            return node[key]
    return None


def _source(value: Any) -> str | None:
    """The id of the node that a link leads to: a link is a list of it and of an output's number."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], int):
        return str(value[0])
    return None
