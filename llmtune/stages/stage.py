"""The one door: what every stage of a recipe is.

A stage is one pydantic class in one file of this folder. Its fields are its settings; `plan` is cheap and loads no
weights; `run` makes one artifact. Third parties add stages through the entry-point group `llmtune.stages`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmtune.artifacts import Artifact
from llmtune.machine import Machine
from llmtune.monitor import Monitor
from llmtune.settings import RecipePath, Settings

if TYPE_CHECKING:
    from llmtune.models.shape import ModelShape


@dataclass(frozen=True)
class Need:
    """One input of a stage. `optional`: the stage runs without it. `made_by`: only artifacts of these stage kinds;
    `not_made_by`: never those (an export to GGUF does not start from a quantized checkpoint); `untouched_by`: nor
    anything made from what those made. `setting`: the stage's setting that can name the stage to take it from
    (`teacher: train`), which `from:` then does not; it is another artifact than those."""

    name: str
    kind: str
    optional: bool = False
    made_by: tuple[str, ...] = ()
    not_made_by: tuple[str, ...] = ()
    untouched_by: tuple[str, ...] = ()
    setting: str | None = None

    def in_words(self, emphasis: str = "") -> str:
        """`a checkpoint not made by quantize (optional)`; emphasis: put around the kind."""
        made = f" made by {' or '.join(self.made_by)}" if self.made_by else ""
        unmade = f" not made by {' or '.join(self.not_made_by)}" if self.not_made_by else ""
        touched = f" that no {' or '.join(self.untouched_by)} has touched" if self.untouched_by else ""
        return f"a {emphasis}{self.kind}{emphasis}{made}{unmade}{touched}" + (" (optional)" if self.optional else "")


@dataclass(frozen=True)
class Forecast:
    """What is known of an artifact before it is made, or of one that already is.

    shape:  of a checkpoint's or bundle's model; None for a corpus
    bytes:  on disk
    tokens: of a corpus, by split, estimated for the recipe's tokenizer
    artifact: the thing itself once it exists
    adapter: settings of the adapter that a checkpoint will hold beside its weights; None where there is none
    format: of a bundle (hf, adapter, gguf); None for everything else
    tokenizer: a folder with the tokenizer that a checkpoint has or will have, where one is at hand
    """

    kind: str
    bytes: int
    shape: ModelShape | None = None
    tokens: dict[str, int] = field(default_factory=dict)
    artifact: Artifact | None = None
    adapter: dict[str, Any] | None = None
    format: str | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What a stage will need here: memory (peak bytes of all its processes on this machine), disk (bytes, artifact and
    work folder together), seconds (None: unknown). `problems` are sentences saying why it can not work here; `notes`
    are worth knowing."""

    makes: Forecast
    memory: int
    disk: int
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """What a running stage is given.

    output:   an empty folder; what `run` leaves in it becomes the artifact, all or nothing
    work:     a folder that outlives a kill: partial state to resume from; gone once the stage is done
    cache:    a folder of this kind of stage that outlives the stage too, shared by all runs beside this one; None: none
    seed:     the recipe's seed; derive others from it and a name
    halvings: how often the micro-batch has been halved after running out of memory
    """

    output: Path
    work: Path
    seed: int
    monitor: Monitor = field(default_factory=Monitor)
    halvings: int = 0
    cache: Path | None = None


class Stage(Settings):
    """One step of a recipe. Subclasses add fields, and set `kind`, `makes`, `needs`. The rest has defaults: what the
    recipe and the run must know of a stage they ask here, and never by the names of its fields."""

    kind: ClassVar[str]
    makes: ClassVar[str]
    needs: ClassVar[tuple[Need, ...]] = ()
    # Raise when the same settings and inputs come to mean another result: old artifacts are then made again.
    version: ClassVar[int] = 1
    # Whether what it makes of its input `checkpoint` has the same tokens, by the same numbers.
    keeps_tokenizer: ClassVar[bool] = False
    # Whether the recipe's seed has a part in the result.
    seeded: ClassVar[bool] = True
    # Fields that do not change what is made, so a change of them does not make it again.
    not_identity: ClassVar[frozenset[str]] = frozenset({"id", "from_", "gates"})

    id: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
        description="Name of this stage in the recipe; default: its kind, numbered when used twice.",
    )
    from_: str | list[str] | None = Field(
        None,
        alias="from",
        description="Id of the earlier stage (or a list of ids) whose artifact to take, instead of the last one of the "
        "kind needed; `base` is the base model.",
    )
    gates: dict[str, str] = Field(
        default_factory=dict,
        description="Conditions on this stage's scores, for example {domain_perplexity: '<= 0.75 of base'}; the run "
        "stops when one fails.",
    )

    def inputs_needed(self) -> tuple[Need, ...]:
        """The inputs, where they depend on the settings; default: `needs`."""
        return self.needs

    def identity(self) -> dict[str, Any]:
        """JSON value of all that decides what this stage makes, besides its inputs, `version` and the seed. Stages
        that read files from outside the store replace their paths by fingerprints of the contents here."""
        return self.model_dump(mode="json", exclude=set(self.not_identity))

    def described(self, identity: dict[str, Any]) -> dict[str, Any]:
        """What the lineage of all that is made from this stage's artifact says of its settings; default: `identity`."""
        return identity

    @property
    def makes_whole_model(self) -> bool:
        """Whether the checkpoint or bundle it makes is a model by itself; an adapter alone is none: of that only the
        size is measured."""
        return True

    @property
    def makes_adapter(self) -> bool:
        """Whether the checkpoint it makes comes with an adapter, which belongs on the weights that it started from."""
        return False

    def held_out(self, split: str) -> float | None:
        """The share of a corpus that goes to `split` (valid or test), as far as its settings say it; None: unknown."""
        return None

    def can_halve(self, halvings: int) -> bool:
        """Whether it can be started again with its micro-batch halved so often, after running out of memory (0: whether
        it has a micro-batch); `Context.halvings` then says how often."""
        return False

    @abstractmethod
    def plan(self, inputs: Mapping[str, Forecast], machine: Machine) -> Plan:
        """Estimate without loading weights or reading whole inputs. `inputs` by the names in `needs`."""

    @abstractmethod
    def run(self, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Make the artifact in `context.output`; return its metrics (JSON values). Import torch here, not above.

        Ends early with Stopped at a safe point when the monitor says so, and resumes from `context.work`."""


class LaunchedStage(Stage):
    """A stage that several ranks may run together: those that `accelerate launch` starts by the file in `launch`, or
    those of an outer launch. Every rank comes to `run`; rank 0 makes the artifact and has the metrics."""

    launch: RecipePath | None = Field(
        None,
        description="A configuration file of `accelerate launch`, for several processes or GPUs (see "
        "accelerate_configs/). Ignored when the whole run was started by `accelerate launch`.",
    )

    def identity(self) -> dict[str, Any]:
        """The launch configuration counts by its contents: a worker is started by a copy of the file."""
        from llmtune.training.launch import read_launch

        launch = read_launch(self.launch)
        return super().identity() | {"launch": launch.identity if launch else None}
