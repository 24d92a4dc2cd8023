"""The model card (README.md) of a bundle: what it is, what it was made from and how, what was proven, how to run it.

Only what is known from lineage, proof and corpus figures: no path of the machine, no date, nothing made up.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_SETTINGS_LEFT_OUT = ("id", "from", "from_", "gates", "launch")


@dataclass(frozen=True)
class Origin:
    """Where a bundle comes from.

    name: what the model is called; base: name of the base model; base_id: its id on the hub, None elsewhere;
    base_in_gguf: whether it was read from a GGUF file
    licence: of the base, as it says itself; lineage: of the checkpoint (`artifacts.Artifact.lineage`)
    corpus: the `card.json` of the corpus that the export takes, None without one; corpus_fingerprint: that corpus
    context: longest input, in tokens
    """

    name: str
    base: str
    base_id: str | None = None
    base_in_gguf: bool = False
    licence: str | None = None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    corpus: Mapping[str, Any] | None = None
    corpus_fingerprint: str | None = None
    context: int = 2048

    @property
    def base_url(self) -> str | None:
        return f"https://huggingface.co/{self.base_id}" if self.base_id else None


def origin_of(
    lineage: Mapping[str, Any],
    *,
    name: str | None = None,
    folder_licence: str | None = None,
    corpus: Mapping[str, Any] | None = None,
    corpus_fingerprint: str | None = None,
    context: int = 2048,
) -> Origin:
    """Read a checkpoint's lineage. name: None: the base's, with "-tuned" where something was trained.
    folder_licence: what the checkpoint's own card says, where the lineage does not know."""
    chain = list(stages_of(lineage))
    base = chain[0].get("settings", {}) if chain and chain[0].get("made_by") == "model" else {}
    model = base["model"] if isinstance(base.get("model"), Mapping) else {}
    base_name = str(base.get("name") or "base model")
    tuned = any(stage.get("made_by") not in ("model", "quantize") for stage in chain)
    own = f"{base_name.rpartition('/')[2]}{'-tuned' if tuned else ''}"
    licence = base.get("licence") or folder_licence
    return Origin(
        name or own,
        base_name,
        base_id=model.get("hub"),
        base_in_gguf="gguf" in model,
        licence=licence,
        lineage=lineage,
        corpus=corpus,
        corpus_fingerprint=corpus_fingerprint,
        context=context,
    )


def stages_of(lineage: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The stages that the model itself went through, base first (corpora and teachers stand beside the road)."""
    inputs = lineage.get("inputs") or {}
    earlier = inputs.get("checkpoint") or inputs.get("model")
    if earlier:
        yield from stages_of(earlier)
    if lineage:
        yield lineage


def model_card(
    origin: Origin, form: str, proof: Mapping[str, Any], file: str | None, details: Mapping[str, Any]
) -> str:
    """The card as Markdown with the hub's front matter. form: hf, adapter or gguf; file: of a GGUF bundle."""
    parts = [
        _front_matter(origin, form),
        f"# {origin.name}",
        _summary(origin, form, details),
        "## How to run it\n\n" + _usage(origin, form, file, details),
        "## How it was made\n\n" + _road(origin),
    ]
    parts += _texts(origin)
    parts.append("## Verification\n\n" + _proof(proof))
    parts.append("## Licence\n\n" + _licence(origin))
    return "\n\n".join(parts) + "\n"


def _front_matter(origin: Origin, form: str) -> str:
    known = (origin.licence or "").lower()
    spdx = known if known and " " not in known and "," not in known else None
    lines = ["---"]
    if spdx:
        lines.append(f"license: {spdx}")
    elif known:
        lines += ["license: other", f"license_name: {json.dumps(origin.licence)}"]
    lines.append(f"base_model: {json.dumps(origin.base_id or origin.base)}")
    lines.append("pipeline_tag: text-generation")
    lines.append(f"library_name: {({'hf': 'transformers', 'adapter': 'peft', 'gguf': 'llama.cpp'})[form]}")
    tags = ["llmtune", *(["gguf"] if form == "gguf" else ["lora"] if form == "adapter" else [])]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _summary(origin: Origin, form: str, details: Mapping[str, Any]) -> str:
    if form == "gguf":
        what = f"A GGUF file for llama.cpp in {details['type'].upper()} (embeddings {details['embeddings'].upper()})"
        if "repacked_tensors" in details:
            what += "; the codes of the quantized checkpoint, as they are"
            if details.get("kept_tensors"):
                what += f", and {details['kept_tensors']} tensors that it left unrounded"
        elif details.get("weights_with_importance"):
            what += "; rounded with an importance measured on the training text"
    elif form == "adapter":
        what = f"A LoRA adapter for peft, to be put on its base model {origin.base_id or origin.base}"
    else:
        what = "A Hugging Face model folder"
    return f"{what}. Made from **{origin.base}** with llmtune. The language is that of its training text."


def _usage(origin: Origin, form: str, file: str | None, details: Mapping[str, Any]) -> str:
    if form == "gguf":
        context = min(origin.context, 4096)
        return (
            f"```sh\nllama-cli -m {file} -c {context} -cnv      # llama.cpp\n"
            f"llama-server -m {file} -c {context}         # an OpenAI-compatible server\n"
            f"llmtune chat {file}\n```"
        )
    if form == "adapter":
        load = _load_adapter(origin)
    else:
        load = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder", dtype="auto")\n'
        )
    return (
        f'```python\n{load}tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")\n'
        'inputs = tokenizer("Once", return_tensors="pt")\n'
        "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40)[0]))\n```"
        + ("\n\n" + _base_needed(origin) if form == "adapter" else "\n\nOr `llmtune chat path/to/this/folder`.")
    )


def _load_adapter(origin: Origin) -> str:
    """The lines that put an adapter on its base: by the base's id where the hub has it, else from its folder."""
    if origin.base_id:
        return (
            "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer\n\n"
            f"# fetches the base model {origin.base_id}, which adapter_config.json names\n"
            'model = AutoPeftModelForCausalLM.from_pretrained("path/to/this/folder")\n'
        )
    return (
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'base = AutoModelForCausalLM.from_pretrained("path/to/the/base", dtype="auto")\n'
        'model = PeftModel.from_pretrained(base, "path/to/this/folder")\n'
    )


def _base_needed(origin: Origin) -> str:
    """Which base an adapter needs, and where it is to be had."""
    if origin.base_id:
        return f"It needs its base model, [{origin.base_id}]({origin.base_url}), and works on no other."
    text = (
        f"It needs its base model, `{origin.base}`, and works on no other. That was no model of the hub: put the "
        "folder that holds it in the place of `path/to/the/base`."
    )
    if origin.base_in_gguf:
        text += (
            " It was read from a GGUF file; where llmtune is installed, "
            f"`llmtune.models.find.resolve(ModelReference.parse({json.dumps(origin.base)}))` (`ModelReference` is in "
            "`llmtune.models.reference`) makes the folder from that file and returns its place."
        )
    return text


def _road(origin: Origin) -> str:
    rows = ["| stage | kind | settings |", "| --- | --- | --- |"]
    for stage in stages_of(origin.lineage):
        rows.append(f"| {stage.get('stage', '')} | {stage.get('made_by', '')} | {_settings(stage)} |")
    return "\n".join(rows) if len(rows) > 2 else f"Exported as it is from {origin.base}."


def _settings(stage: Mapping[str, Any]) -> str:
    settings = stage.get("settings") or {}
    if stage.get("made_by") == "model":
        settings = {key: settings.get(key) for key in ("name", "licence")}
    shown = [
        f"`{key}: {json.dumps(value, ensure_ascii=False)}`".replace("|", "\\|")
        for key, value in settings.items()
        if key not in _SETTINGS_LEFT_OUT and value not in (None, [], {}, "")
    ]
    return "<br>".join(shown)


def _texts(origin: Origin) -> list[str]:
    """What the model was trained on, or a corpus that only calibrated and checked it; nothing where neither was."""
    read = [stage["inputs"]["corpus"] for stage in stages_of(origin.lineage) if _trained(stage)]
    shown = origin.corpus_fingerprint if origin.corpus else None
    others = [corpus for corpus in read if shown is None or corpus.get("fingerprint") != shown]
    trained = len(others) < len(read)
    parts = []
    if origin.corpus:
        title = "Text it was trained on" if trained else "Text it was calibrated and checked with"
        parts.append(f"## {title}\n\n" + _corpus(origin.corpus))
    if others:
        names = dict.fromkeys(f"- corpus `{corpus.get('stage')}`: {_sources(corpus)}" for corpus in others)
        parts.append(f"## {'More text' if trained else 'Text'} it was trained on\n\n" + "\n".join(names))
    return parts


def _trained(stage: Mapping[str, Any]) -> bool:
    return stage.get("made_by") in ("train", "distill") and bool((stage.get("inputs") or {}).get("corpus"))


def _sources(corpus: Mapping[str, Any]) -> str:
    settings = corpus.get("settings") or {}
    earlier = (corpus.get("inputs") or {}).get("corpus")
    if earlier:
        said = f", with back-translations by way of {settings['pivot']}" if settings.get("pivot") else ""
        return _sources(earlier) + said
    sources = settings.get("sources") or []
    return ", ".join(str(source.get("name") or source.get("format") or "?") for source in sources) or "?"


def _corpus(card: Mapping[str, Any]) -> str:
    rows = ["| | documents | characters |", "| --- | --- | --- |"]
    named = [*(card.get("splits") or {}).items(), ("total", card.get("total") or {})]
    rows += [f"| {name} | {_number(one.get('documents'))} | {_number(one.get('characters'))} |" for name, one in named]
    licences = card.get("licences") or {}
    said = ", ".join(f"{name} ({_number(count)} documents)" for name, count in licences.items()) or "unknown"
    told = ", ".join(f"{name} ({_number(count)})" for name, count in (card.get("languages") or {}).items())
    told = f" Languages of some documents, told by their words: {told}." if told else ""
    made = "".join(
        f" {_number(one['documents']['added'])} documents of the train split are back-translations of others by way of "
        f"{one['pivot']}."
        for one in card.get("back_translation") or ()
    )
    return "\n".join(rows) + f"\n\nLicences of the text: {said}. The test split was held out.{told}{made}"


def _proof(proof: Mapping[str, Any]) -> str:
    runtime = proof["runtime"]
    text = proof["tokenization"]
    lines = [
        f"Loaded again in {runtime['name']} ({runtime['version']}) and compared with the checkpoint "
        f"(details: `verification.json`):",
        "",
        f"- {text['texts']} probe texts in several languages give the same {_number(text['tokens'])} tokens.",
    ]
    template = proof["chat_template"]
    if isinstance(template, Mapping):
        lines.append(f"- {template['conversations']} conversations are rendered the same by the chat template.")
    lines += ["", "| compared with | positions | same likeliest token | mean KL (nats) |", "| --- | --- | --- | --- |"]
    for part in ("conversion", "quantization"):
        if part in proof:
            one = proof[part]
            lines.append(f"| {one['compared_with']} | {one['positions']} | {one['top1']:.1%} | {one['kl']:.2g} |")
    lines.append(f"\nPositions are taken from: {proof['text']}.")
    return "\n".join(lines)


def _licence(origin: Origin) -> str:
    if origin.licence:
        return f"The base model is under {origin.licence}; what is made from it is bound by that licence."
    return f"The licence of {origin.base} is not known to llmtune; look it up before you pass this model on."


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "?"
