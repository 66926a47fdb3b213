"""Picture files as other programs write them, made here from the formats' descriptions."""

from __future__ import annotations

import io
import json
import struct
import zlib
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

A1111 = (
    "a knight, (red cape:1.2),\nsecond line\n"
    "Negative prompt: blurry, bad hands\nand more\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 965400086, "
    'Size: 512x768, Model hash: 45dee52b, Model: dream, Lora hashes: "a: 1, b: 2", Version: v1.10'
)

GRAPH: dict[str, Any] = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 156680208700286,
            "steps": 25,
            "cfg": 8.0,
            "sampler_name": "euler_ancestral",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["10", 0],
            "positive": ["11", 0],
            "negative": ["11", 1],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl.safetensors"}},
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 1024, "height": 576, "batch_size": 1},
    },
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["12", 0], "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "watermark", "clip": ["4", 1]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "pixel", "model": ["4", 0]}},
    "11": {
        "class_type": "ControlNetApplyAdvanced",
        "inputs": {"positive": ["6", 0], "negative": ["7", 0], "strength": 1.0},
    },
    "12": {"class_type": "PrimitiveString", "inputs": {"value": "a castle on a hill"}},
}

FLUX_GRAPH: dict[str, Any] = {
    "1": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["2", 0],
            "guider": ["3", 0],
            "sampler": ["4", 0],
            "sigmas": ["5", 0],
            "latent_image": ["6", 0],
        },
    },
    "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": 42}},
    "3": {"class_type": "BasicGuider", "inputs": {"model": ["7", 0], "conditioning": ["8", 0]}},
    "4": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "5": {"class_type": "BasicScheduler", "inputs": {"scheduler": "simple", "steps": 4}},
    "6": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 512}},
    "7": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux.safetensors"}},
    "8": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["9", 0]}},
    "9": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["10", 0]}},
}

INVOKE: dict[str, Any] = {
    "generation_mode": "sdxl_txt2img",
    "positive_prompt": "a dragon",
    "negative_prompt": "text",
    "width": 1024,
    "height": 1024,
    "seed": 7,
    "cfg_scale": 5.5,
    "steps": 30,
    "scheduler": "dpmpp_2m_k",
    "model": {"name": "Juggernaut", "base": "sdxl"},
}

NOVEL: dict[str, Any] = {
    "steps": 28,
    "sampler": "k_euler_ancestral",
    "seed": 99,
    "scale": 6.0,
    "strength": 0.7,
    "noise": 0.2,
    "uc": "lowres",
    "width": 832,
    "height": 1216,
    "noise_schedule": "native",
}

SWARM: dict[str, Any] = {
    "sui_image_params": {
        "prompt": "a ship",
        "negativeprompt": "fog",
        "model": "sdxl",
        "seed": 11,
        "steps": 12,
        "cfgscale": 4.0,
        "width": 640,
        "height": 448,
        "sampler": "euler",
        "scheduler": "normal",
    },
    "sui_extra_data": {"date": "2026-01-01"},
}

FOOOCUS: dict[str, Any] = {
    "prompt": "a lamp",
    "negative_prompt": "dark",
    "base_model": "juggernautXL",
    "base_model_hash": "d91d35736d",
    "resolution": "(1152, 896)",
    "guidance_scale": 4,
    "sharpness": 2,
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "seed": "123",
    "steps": 30,
}

DRAW_THINGS: dict[str, Any] = {
    "c": "a robot",
    "uc": "rust",
    "model": "sd_v1.5_f16.ckpt",
    "sampler": "DPM++ 2M Karras",
    "scale": 7,
    "seed": 3,
    "size": "512x512",
    "steps": 20,
}


def png(size: tuple[int, int] = (16, 8), **texts: str) -> bytes:
    """Keywords are given as keywords; XMP as `xmp`."""
    info = PngInfo()
    for keyword, text in texts.items():
        if keyword == "xmp":
            info.add_itxt("XML:com.adobe.xmp", text)
        else:
            info.add_text(keyword, text)
    file = io.BytesIO()
    picture(size).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def picture(size: tuple[int, int] = (16, 8)) -> Image.Image:
    image = Image.linear_gradient("L").resize(size)
    return Image.merge("RGB", (image, image.rotate(180), image))


def with_exif(kind: str, comment: bytes, tag: int = 0x9286) -> bytes:
    """WEBP or JPEG with a text in EXIF: a tag of the Exif table, or of the first one."""
    exif = Image.Exif()
    if tag == 0x9286:
        exif.get_ifd(0x8769)[tag] = comment
    else:
        exif[tag] = comment.decode()
    file = io.BytesIO()
    picture().save(file, kind, exif=exif)
    return file.getvalue()


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    crc = zlib.crc32(kind + body)
    return (
        data[:33] + struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc) + data[33:]
    )


def xmp(inner: str = "", attributes: str = "") -> str:
    return (
        "<x:xmpmeta xmlns:x='adobe:ns:meta/'>"
        "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
        "<rdf:Description xmlns:exif='http://ns.adobe.com/exif/1.0/' "
        f"xmlns:dcterms='http://purl.org/dc/terms/' {attributes}>{inner}</rdf:Description>"
        "</rdf:RDF></x:xmpmeta>"
    )


def draw_things() -> bytes:
    comment = json.dumps(DRAW_THINGS).replace('"', "&quot;")
    listed = f"<rdf:Alt><rdf:li xml:lang='x-default'>{comment}</rdf:li></rdf:Alt>"
    return png(xmp=xmp(f"<exif:UserComment>{listed}</exif:UserComment>"))
