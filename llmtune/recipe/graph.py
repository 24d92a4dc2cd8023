"""Which artifact each stage takes: the recipe as a list of nodes in the order in which they run.

A stage takes, for each of its needs, the last earlier artifact of that kind; `from:` names others. The base model is
a node of its own, first. When the recipe has `evaluate:`, each model gets an evaluation right after the stage that
made it. All of them score on one corpus, so that their figures compare: the corpus that the first model-making stage
takes (the one that is trained on), else the recipe's last. A model that is older than that corpus (the base, always)
is scored as soon as the corpus is there. A model from elsewhere that a stage's setting names (a teacher) gets a node
too, which no other stage takes and nothing scores.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from llmtune.errors import RecipeError
from llmtune.models.reference import ModelReference
from llmtune.recipe.faults import nearest
from llmtune.recipe.recipe import BASE, Recipe
from llmtune.stages import stage_class
from llmtune.stages.stage import Need, Stage

MODEL_KINDS = frozenset({"checkpoint", "bundle"})
Fault = tuple[str | None, str]  # the setting at fault, if one is; what is wrong
EVALUATION = ".evaluate"  # the id of a model's evaluation is the model's, and this
ANSWERS = ".answers"  # likewise, of its answers to the report's prompts


@dataclass(frozen=True)
class Node:
    """One stage of a run. inputs: name of the need → id of the node whose artifact it takes."""

    id: str
    stage: Stage
    inputs: dict[str, str]


@dataclass(frozen=True)
class WiringProblem:
    """A stage, by its position in the recipe, that cannot have its inputs; `key`: the setting at fault, if one is."""

    index: int
    key: str | None
    text: str


@dataclass(frozen=True)
class Wiring:
    """The nodes in the order of the run, and what is wrong (then nodes are missing)."""

    nodes: list[Node]
    problems: list[WiringProblem]


def resolve_inputs(recipe: Recipe) -> list[Node]:
    """The nodes of a recipe in the order of the run; raises RecipeError when a stage cannot be given its inputs."""
    wiring = wire(recipe)
    if wiring.problems:
        texts = [f"stage '{recipe.stages[problem.index].id}': {problem.text}" for problem in wiring.problems]
        raise RecipeError("\n".join(texts), where=f"recipe '{recipe.name}'")
    return wiring.nodes


def wire(recipe: Recipe) -> Wiring:
    """As `resolve_inputs`, with the problems as values."""
    base = stage_class("model").model_validate({"id": BASE, "model": recipe.model})
    wiring = _wire_stages(base, recipe.stages)
    if wiring.problems:
        return wiring
    nodes = wiring.nodes
    if recipe.evaluate is not None:
        nodes = _with_evaluations(recipe, nodes)
    if recipe.report.prompts:
        nodes = [*nodes, *_answers(recipe.report.prompts, nodes)]
    return Wiring(nodes, [])


def needed_for(nodes: Sequence[Node], name: str) -> list[Node]:
    """The node of that id and all that it is made from, in the order of the run."""
    needed = {name}
    for node in reversed(nodes):  # a stage stands behind its inputs
        needed |= set(node.inputs.values()) if node.id in needed else set()
    return [node for node in nodes if node.id in needed]


def is_known(stage: Stage) -> bool:
    """Whether a stage has all its settings: one that is wrong in itself may be known by its kind alone."""
    return all(hasattr(stage, name) for name in type(stage).model_fields)


def known_nodes(recipe: Recipe) -> Sequence[Node]:
    """Which stage takes what; nothing while a stage is known by its kind alone, since what it takes can depend on its
    settings."""
    return wire(recipe).nodes if all(map(is_known, recipe.stages)) else ()


def input_problems(stages: Sequence[Stage], wrong: Container[int]) -> list[WiringProblem]:
    """What is wrong with the inputs of stages that have ids, whatever else may be wrong in their recipe. wrong: the
    positions of stages of which only the kind is known; what they take is not looked at."""
    return _wire_stages(stage_class("model").model_construct(id=BASE), stages, wrong).problems


def _wire_stages(base: Stage, stages: Sequence[Stage], wrong: Container[int] = ()) -> Wiring:
    nodes = [Node(BASE, base, {})]
    problems: list[WiringProblem] = []
    for index, stage in enumerate(stages):
        earlier = [node for node in nodes if not _from_elsewhere(node)]
        later = [str(other.id) for other in stages[index:]]
        others = {} if index in wrong else _other_models(stage)
        inputs, faults = ({}, []) if index in wrong else _inputs(stage, earlier, later)
        nodes += others.values()
        inputs |= {need: node.id for need, node in others.items()}
        problems += [WiringProblem(index, key, text) for key, text in faults]
        nodes.append(Node(str(stage.id), stage, inputs))
    return Wiring(nodes, problems)


def _from_elsewhere(node: Node) -> bool:
    """Whether it is a model that a stage's setting names, and none of the recipe's own."""
    return node.stage.kind == "model" and node.id != BASE


def _other_models(stage: Stage) -> dict[str, Node]:
    """Name of the need → a node for the model that the stage's setting names, where that is no stage of the recipe."""
    found = {}
    for need in stage.inputs_needed():
        model = getattr(stage, need.setting) if need.setting else None
        if isinstance(model, ModelReference):
            name = f"{stage.id}.{need.name}"
            found[need.name] = Node(name, stage_class("model").model_validate({"id": None, "model": model}), {})
    return found


def _inputs(stage: Stage, earlier: Sequence[Node], later: Sequence[str]) -> tuple[dict[str, str], list[Fault]]:
    """The inputs of one stage, and a fault for each that it cannot have; not those that are models from elsewhere."""
    needs = [
        need
        for need in stage.inputs_needed()
        if need.setting is None or not isinstance(getattr(stage, need.setting), ModelReference)
    ]
    named = [stage.from_] if isinstance(stage.from_, str) else list(stage.from_ or [])
    by_setting = {need.setting: need for need in needs if need.setting is not None}
    asked = [(setting, getattr(stage, setting), [need]) for setting, need in by_setting.items()]
    asked += [("from", name, [need for need in needs if need.setting is None]) for name in named]
    inputs: dict[str, str] = {}
    faults: list[Fault] = []
    for setting, name, takers in asked:
        if name is None:
            continue
        source = next((node for node in earlier if node.id == name), None)
        if source is None:
            faults.append((setting, _unknown(name, earlier, later)))
            continue
        need = next((need for need in takers if need.name not in inputs and _fits(need, source, earlier)), None)
        if need is None:
            faults.append((setting, _unfit(stage, takers, source, setting)))
        else:
            inputs[need.name] = source.id
    for need in needs:
        if need.name in inputs:
            continue
        last = next((node for node in reversed(earlier) if _fits(need, node, earlier)), None)
        if last is not None:
            inputs[need.name] = last.id
        elif not need.optional and not faults:
            faults.append((None, _absent(stage, need, earlier)))
    for setting, need in by_setting.items() if not faults else ():
        alike = next(
            (other for other in needs if other != need and inputs.get(need.name) == inputs.get(other.name)), None
        )
        if need.name in inputs and alike is not None:
            text = f"the {need.name} would be '{inputs[need.name]}', which '{stage.id}' takes as its {alike.name}"
            faults.append((setting, f"{text}; name another stage or model by `{setting}:`"))
    return inputs, faults


def _fits(need: Need, node: Node, earlier: Sequence[Node]) -> bool:
    """Whether a stage can take what this node makes. earlier: the nodes before the stage."""
    kind = node.stage.kind
    if node.stage.makes != need.kind or (need.made_by and kind not in need.made_by) or kind in need.not_made_by:
        return False
    return not need.untouched_by or not {one.stage.kind for one in needed_for(earlier, node.id)} & {*need.untouched_by}


def _unknown(name: str, earlier: Sequence[Node], later: Sequence[str]) -> str:
    if name in later:
        return f"'{name}' is not made yet at this stage; expected an earlier stage, one of: {_ids(earlier)}"
    return f"no stage '{name}' before this one{nearest(name, [node.id for node in earlier])}"


def _unfit(stage: Stage, needs: Sequence[Need], source: Node, setting: str) -> str:
    made = f"'{source.id}' ({source.stage.kind}) makes a {source.stage.makes}"
    if not needs:
        return f"{made}; '{stage.id}' takes nothing"
    taker = f"'{stage.id}'" if setting == "from" else f"'{setting}' of '{stage.id}'"
    return f"{made}; {taker} takes {' and '.join(need.in_words() for need in needs)}"


def _absent(stage: Stage, need: Need, earlier: Sequence[Node]) -> str:
    """A need that nothing before the stage meets, and what would."""
    near = [node.id for node in earlier if node.stage.makes == need.kind]
    text = f"stage '{stage.id}' needs {need.in_words()}, and no stage before it makes one"
    return text + (f" ({', '.join(near)}: not of that making)" if near else "")


def _ids(nodes: Sequence[Node]) -> str:
    return ", ".join(node.id for node in nodes)


def _with_evaluations(recipe: Recipe, nodes: Sequence[Node]) -> list[Node]:
    """The nodes with an evaluation of each model as soon as both it and the corpus of the scores are there."""
    corpus = scoring_corpus(nodes)
    stage = stage_class("evaluate").model_validate({"settings": recipe.evaluate})
    ordered: list[Node] = []
    waiting: list[Node] = []
    there = corpus is None
    for node in nodes:
        ordered.append(node)
        there = there or node.id == corpus
        if node.stage.makes in MODEL_KINDS and not _from_elsewhere(node):
            waiting.append(node)
        if there:
            extra = {"base": BASE} | ({"corpus": corpus} if corpus is not None else {})
            ordered += [Node(model.id + EVALUATION, stage, {"model": model.id} | extra) for model in waiting]
            waiting = []
    return ordered


def _answers(prompts: Sequence[str], nodes: Sequence[Node]) -> list[Node]:
    """The base model's and the last model's answers to the report's prompts, at the end of the run."""
    own = [node for node in nodes if node.stage.makes in MODEL_KINDS and not _from_elsewhere(node)]
    models = [node.id for node in own if node.stage.makes_whole_model]
    stage = stage_class("answers").model_validate({"prompts": list(prompts)})
    return [Node(name + ANSWERS, stage, {"model": name}) for name in dict.fromkeys((models[0], models[-1]))]


def scoring_corpus(nodes: Sequence[Node]) -> str | None:
    """The id of the corpus whose held-out text every score of a recipe is measured on; None when there is none."""
    by_id = {node.id: node for node in nodes}
    for node in nodes:
        if node.stage.makes in MODEL_KINDS:
            taken = [source for source in node.inputs.values() if by_id[source].stage.makes == "corpus"]
            if taken:
                return taken[0]
    return next((node.id for node in reversed(nodes) if node.stage.makes == "corpus"), None)
