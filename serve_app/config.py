"""Settings: each once, with its default, unit and reason. Only here is the environment read.

Knows nothing of what the settings do. The `args:` of a Serve config are these fields; a field left out is
taken from the environment (`ASSETS_<FIELD>`, and `REDIS_URL` as in the app this service replaces).
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from serve_app.object_address import ObjectAddress, folder_in

PROJECT_ROOT = Path(__file__).resolve().parent.parent
"""Relative paths start here, never at the working directory: a Ray worker's is wherever Ray started."""

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s*]+")
_POOL = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_URL = re.compile(r"https?://[^\s?#*@]+")

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine reaches."""

INGRESS_REQUESTS = 5000
"""Requests one ingress replica works on at a time. Most of them are streams, which seldom have work."""
INGRESS_CPUS = 0.1
"""Logical CPUs that one ingress replica reserves."""


def user_path(path: str | Path) -> Path:
    """With `~` and `~name` as the home they mean, which a shell expands and nothing else does. Raises
    ValueError where there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: no home directory is known for `~`") from error


UserPath = Annotated[Path, AfterValidator(user_path)]


class PoolSettings(BaseModel):
    """Renderers of some models, beside those of other pools. What is left out is as outside of `pools`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: list[str] = Field(
        min_length=1,
        description="What each of its renderers draws, one of them at a time or beside others.",
    )
    num_gpus: Literal["auto"] | float | None = None
    num_cpus: float | None = None
    min_replicas: int | None = Field(default=None, ge=0)
    max_replicas: int | None = Field(default=None, ge=1)
    slots: int | None = Field(default=None, ge=1)
    weights_share: float | None = Field(default=None, gt=0, le=1)


class Settings(BaseSettings):
    """Arguments of the application. Unknown ones are refused."""

    model_config = SettingsConfigDict(
        env_prefix="ASSETS_", extra="forbid", frozen=True, populate_by_name=True
    )

    # ---- where things are ----
    app_name: str = Field(
        default="assets", description="Serve application; also names the registry."
    )
    output_dir: UserPath = Field(
        default=Path("output"), description="Finished files; served at /output."
    )
    output: str | None = Field(
        default=None,
        description="An object store for finished files instead: s3://bucket/prefix, also gs, az.",
    )
    output_redirect: bool = Field(
        default=False, description="Clients fetch files from `output` itself, by signed URLs."
    )
    state_dir: UserPath = Field(
        default=Path(".state"), description="SQLite, or copies of Redis; never below output_dir."
    )
    styles_file: UserPath = Path("configs/styles.yaml")
    models_file: UserPath = Path("configs/models.yaml")
    palettes_dir: UserPath = Field(
        default=Path("configs/palettes"), description="Palette files, by name in `palette`."
    )
    matting_file: UserPath | None = Field(
        default=None, description="ONNX weights for the effect `cutout` (extra `matting`)."
    )
    upscalers_dir: UserPath | None = Field(
        default=None, description=".safetensors, by name in the effect `upscale` (extra `upscale`)."
    )
    redis_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("redis_url", "REDIS_URL"),
        description="The job store is there, not in state_dir. Needs retention_days.",
    )
    redis_prefix: str = Field(
        default="assets",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Begins every key in Redis: one for each application of a server.",
    )
    redis_vouched: bool = Field(
        default=False,
        description="Redis does not tell its settings; you know that it keeps what it confirms.",
    )

    # ---- rendering ----
    model: str | None = Field(
        default=None,
        description="Active model, which orders get that name none; default: models.yaml says.",
    )
    num_gpus: Literal["auto"] | float = Field(
        default="auto", description="Per replica. auto: 1 if the cluster shows a GPU at build time."
    )
    nodes_on_demand: bool = Field(
        default=False,
        description="The cluster adds nodes by itself: a GPU that no node has may still come.",
    )
    num_cpus: float = Field(default=1, description="Logical CPUs a renderer replica reserves.")
    pools: dict[str, PoolSettings] = Field(
        default={}, description="Several models at once: renderers of each, by name of the pool."
    )
    weights_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Of a device's memory, for weights where a pool has several models; the others wait in "
        "the memory of the host. None: 0.6 of a GPU's; on a CPU none ever leaves.",
    )
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=1, ge=1)
    slots: int = Field(default=4, ge=1, description="Jobs one replica works on at a time.")
    upscale_delay_s: float = Field(default=5, ge=0)
    downscale_delay_s: float = Field(default=120, ge=0)
    scale_to_zero_delay_s: float = Field(default=600, ge=0, description="1 -> 0 replicas only.")
    autoscaling_interval_s: float = Field(
        default=5, gt=0, description="Metric push; look-back is 3x."
    )
    stall_timeout_s: float = Field(
        default=120, gt=0, description="A replica with work and no step for this long is unhealthy."
    )
    shutdown_grace_s: float = Field(
        default=180,
        ge=0,
        description="A replica that is told to stop may finish its jobs for so long.",
    )

    # ---- jobs ----
    cpu_slots: int = Field(
        default=2,
        ge=1,
        description="Jobs without a renderer (finishing, sheets) worked on at a time.",
    )
    max_pending: int = Field(default=10_000, ge=1, description="Queued jobs; beyond it 429.")
    max_attempts: int = Field(
        default=3, ge=1, description="Replica deaths one job may be part of before it fails."
    )
    submit_timeout_s: float = Field(
        default=10,
        gt=0,
        le=14,  # a second before `api.registry_client` gives its call up
        description="After it the registry refuses a submit, and the client has a 503.",
    )
    idempotency_hours: float = Field(default=24, gt=0)
    drain_s: float = Field(
        default=30,
        ge=0,
        description="How long running jobs may take to end before newer code takes over.",
    )
    cached_jobs: int = Field(
        default=10_000, ge=1, description="Jobs that do not run, held in memory."
    )
    retention_days: float | None = Field(
        default=None, gt=0, description="Finished jobs and their files go after it. None: never."
    )
    client_weights: dict[str, float] = Field(
        default={}, description="Shares of the device by client; 1 for whoever is not named."
    )
    ingress_replicas: int = Field(default=1, ge=1)
    launchers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="Processes that launch jobs for the registry: one for each 150 jobs a second.",
    )

    dialects: Annotated[list[Literal["openai", "a1111"]], NoDecode] = Field(
        default=[],
        description="Interfaces of other programs that are served too, for clients that exist.",
    )

    # ---- limits of one request ----
    max_images: int = Field(default=16, ge=1, description="n")
    max_pixels: int = Field(
        default=16 * 1024 * 1024,
        ge=64,
        description="width x height x n: bounds memory and minutes.",
    )
    max_prompt_chars: int = Field(default=2000, ge=1)
    max_body_bytes: int = Field(default=64 * 1024, ge=1024)
    max_upload_bytes: int = Field(
        default=32 * 2**20, ge=1024, description="Of a picture file that a client sends."
    )
    upload_hours: float = Field(
        default=24, gt=0, description="So long an uploaded picture may be ordered with."
    )
    max_uploads: int = Field(default=256, ge=1, description="Uploads that one owner keeps.")
    max_uploads_bytes: int = Field(
        default=2**30, ge=1024, description="Of all uploads of one owner, as they are stored."
    )
    max_batch_orders: int = Field(default=10_000, ge=1, le=100_000, description="Of one batch.")
    max_batch_bytes: int = Field(
        default=16 * 2**20, ge=1024, description="Of the body of a batch: JSON, JSON lines or CSV."
    )
    body_timeout_s: float = Field(
        default=20, gt=0, description="A body that is not whole by then is answered with 408."
    )

    # ---- who may come in ----
    api_keys_file: UserPath | None = Field(
        default=None,
        description="`owner:sha256-of-key` lines. None: everyone on this host is `local`.",
    )
    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default=["localhost", "127.0.0.1", "[::1]"],
        description="Host header; `*` allows any (only with API keys).",
    )

    cors_origins: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="Web pages of these origins may use the API; `*`: of any (only with API keys).",
    )
    page: bool = Field(default=True, description="The page in the browser, at /.")
    trusted_proxies: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="Addresses or networks whose X-Forwarded-Prefix, -Proto and -Host are believed.",
    )

    # ---- webhooks ----
    webhooks_file: UserPath | None = Field(
        default=None,
        description="Owners' secrets, by `assets webhooks`. None: no webhook can be ordered.",
    )
    webhook_networks: Annotated[list[str], NoDecode] = Field(
        default=[],
        description="Networks whose receivers may be called though they are not public.",
    )
    webhook_ca_file: UserPath | None = Field(
        default=None,
        description="Certificates of receivers that are believed beside those of the system.",
    )
    public_url: str | None = Field(
        default=None,
        description="Where clients reach the service: it begins every link in a webhook's body.",
    )

    @field_validator(
        "allowed_hosts",
        "cors_origins",
        "dialects",
        "trusted_proxies",
        "webhook_networks",
        mode="before",
    )
    @classmethod
    def _split_list(cls, value: Any) -> Any:
        return [h.strip() for h in value.split(",")] if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin!r} is no origin: write it like https://editor.example")
        return origins

    @field_validator("public_url")
    @classmethod
    def _url(cls, url: str | None) -> str | None:
        if url is not None and not _URL.fullmatch(url):
            raise ValueError(f"{url!r} is no URL: write it like https://art.example/assets")
        return url and url.rstrip("/")

    @field_validator("output")
    @classmethod
    def _output(cls, output: str | None) -> str | None:
        if output is not None and folder_in(output) is None:
            ObjectAddress.parse(output)
        return output

    @field_validator("trusted_proxies", "webhook_networks")
    @classmethod
    def _networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            ip_network(network)
        return networks

    @field_validator("pools")
    @classmethod
    def _pools(cls, pools: dict[str, PoolSettings]) -> dict[str, PoolSettings]:
        drawn: dict[str, str] = {}
        for name, pool in pools.items():
            if not _POOL.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a pool: a-z, 0-9, '_', '-', at most 32")
            for model in pool.models:
                if drawn.get(model) == name:
                    raise ValueError(f"pool {name!r} has model {model!r} twice")
                if model in drawn:
                    raise ValueError(
                        f"model {model!r} is in two pools, {drawn[model]!r} and {name!r}: raise max_replicas "
                        "of one of them instead"
                    )
                drawn[model] = name
        return pools

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.redis_url and self.retention_days is None:
            raise ValueError(
                "REDIS_URL is set, and retention_days is not: Redis keeps the store in memory, so say after "
                "how many days finished jobs and their files go (ASSETS_RETENTION_DAYS in the environment)"
            )
        for name, part in (("", self), *((f"pools.{n}: ", p) for n, p in self.pools.items())):
            fewest = self.min_replicas if part.min_replicas is None else part.min_replicas
            if fewest > (part.max_replicas or self.max_replicas):
                raise ValueError(f"{name}min_replicas must not exceed max_replicas")
            gpus = part.num_gpus
            if isinstance(gpus, float) and (gpus < 0 or (gpus > 1 and gpus % 1)):
                text = "num_gpus is a share of one GPU, or a whole number of them"
                raise ValueError(f"{name}{text}, not {gpus:g}")
        folder = self.output_folder
        if self.output_redirect and folder is not None:
            raise ValueError("output_redirect needs `output` to name an object store")
        if folder is not None and self.path(self.state_dir).is_relative_to(folder):
            raise ValueError("state_dir must not lie below output_dir: everything there is served")
        if any(weight <= 0 for weight in self.client_weights.values()):
            raise ValueError("client_weights must be above 0")
        if "*" in self.allowed_hosts and self.api_keys_file is None:
            raise ValueError("allowed_hosts '*' needs api_keys_file")
        if "*" in self.cors_origins and self.api_keys_file is None:
            raise ValueError("cors_origins '*' needs api_keys_file: any web page could order here")
        return self

    def path(self, path: Path) -> Path:
        """`path` as an absolute path, from the project root."""
        return (PROJECT_ROOT / path).resolve()

    @property
    def output_address(self) -> str:
        """Where finished files are, for `artifacts.storage_at`."""
        folder = self.output_folder
        return str(ObjectAddress.parse(self.output or "")) if folder is None else str(folder)

    @property
    def output_folder(self) -> Path | None:
        """None: finished files are in an object store."""
        if self.output is None:
            return self.path(self.output_dir)
        return folder_in(self.output)

    @property
    def max_streams(self) -> int:
        """Event streams and held answers of one ingress replica, so that they leave room for the rest."""
        return INGRESS_REQUESTS * 3 // 4

    @property
    def max_in_flight(self) -> int:
        """Attempts at once. A constant on purpose: a bound on *free* slots is 0 at zero replicas,
        so nothing would ever start, and it would hide the queue from the autoscaler."""
        return (self.max_replicas + 1) * self.slots
