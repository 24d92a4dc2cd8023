"""Conversations: which tokens are targets, against token sequences put together by hand."""

import numpy as np
import pytest

from llmtune.corpus.store import Message
from llmtune.errors import LlmtuneError
from llmtune.training.chat_template import end_of_turn, tokenize_conversations
from tests.tiny import CHAT_TEMPLATE, tiny_tokenizer
from tests.training.corpora import chat, text

TALK = (
    ("system", "Be brief."),
    ("user", "What is 2+2?"),
    ("assistant", "It is 4."),
    ("user", "Sure?"),
    ("assistant", "Yes."),
)

MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' + '\n' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED_WITHOUT_END = MARKED.replace(
    "{{ m['content'] + '<|im_end|>' + '\n' }}{% endgeneration %}",
    "{{ m['content'] }}{% endgeneration %}{{ '<|im_end|>\n' }}",
)
# Llama 2: blanks around stripped contents, the tokenizer's end token, no generation prompt
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] | trim + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant!') }}{% endif %}{% endfor %}"
)
# Qwen 3: the last answer opens with an empty thought, earlier ones do not
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'].split('</think>')[-1] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# DeepSeek R1: the generation prompt opens a thought that finished conversations do not hold
OPENING = CHAT_TEMPLATE.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n<think>\n' }}")
# no control tokens at all
BARE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
UNSTABLE = "{{ messages | length }}" + CHAT_TEMPLATE


def answers(template, turns=TALK):
    """The runs of targets, as text; and the ids and targets."""
    tokenizer = tiny_tokenizer(chat_template=template)
    ids, trained = tokenize_conversations([chat("talk", *turns)], tokenizer)[0]
    borders = np.flatnonzero(np.diff(trained, prepend=False, append=False)).reshape(-1, 2)
    return [tokenizer.decode(ids[begin:end]) for begin, end in borders], ids, trained


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, MARKED, MARKED_WITHOUT_END, OPENING])
def test_targets_are_the_answers_and_their_end_token(template):
    runs, ids, trained = answers(template)
    assert runs == ["It is 4.<|im_end|>", "Yes.<|im_end|>"]
    ends = [
        int(run[-1])
        for run in np.split(np.flatnonzero(trained), np.flatnonzero(np.diff(np.flatnonzero(trained)) > 1) + 1)
    ]
    assert [ids[end] for end in ends] == [3, 3]  # pad is another token, and were it not: labels are made by position


def test_put_together_by_hand():
    tokenizer = tiny_tokenizer()

    def ids_of(string):
        return tokenizer(string, add_special_tokens=False)["input_ids"]

    start, end = [2], [3]
    question = start + ids_of("user\nWhat is 2+2?") + end + ids_of("\n") + start + ids_of("assistant\n")
    answer = ids_of("It is 4.") + end
    ids, trained = tokenize_conversations([chat("a", ("user", "What is 2+2?"), ("assistant", "It is 4."))], tokenizer)[
        0
    ]
    assert ids == question + answer
    assert trained.tolist() == [False] * len(question) + [True] * len(answer)


def test_pad_token_that_is_the_end_token_is_still_trained_on():
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    ids, trained = tokenize_conversations([chat("talk", *TALK)], tokenizer)[0]
    assert ids[-1] == tokenizer.pad_token_id == 3
    assert trained[-1]


def test_templates_of_other_shapes():
    assert answers(LLAMA2, TALK[1:])[0] == [" It is 4. <|im_end|>", " Yes. <|im_end|>"]
    assert answers(THINKING)[0] == ["It is 4.<|im_end|>", "<think>\n\n</think>\n\nYes.<|im_end|>"]
    assert answers(THINKING, (("user", "a"), ("assistant", "<think>hm</think>b"), ("user", "c"), ("assistant", "d")))[
        0
    ] == [
        "b<|im_end|>",
        "<think>\n\n</think>\n\nd<|im_end|>",
    ]


def test_a_template_without_end_token_gets_one_behind_the_last_answer():
    runs, ids, _ = answers(BARE)
    assert end_of_turn(tiny_tokenizer(chat_template=BARE)) is None
    assert runs == ["It is 4.", "Yes.<|im_end|>"]
    assert ids[-1] == 3


def test_generation_marks_agree_with_transformers():
    tokenizer = tiny_tokenizer(
        chat_template=MARKED_WITHOUT_END.replace("<|im_end|>\n' }}{% endif", "<|im_end|>\n' }}{% endif")
    )
    theirs = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in TALK],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    ids, trained = tokenize_conversations([chat("talk", *TALK)], tokenizer)[0]
    theirs_mask = np.array(theirs["assistant_masks"][: len(ids)], bool)
    assert ids == theirs["input_ids"][: len(ids)]
    # ours adds the end token behind each marked answer
    assert (np.array(ids)[trained & ~theirs_mask] == 3).all()
    assert (trained & ~theirs_mask).sum() == 2
    assert not (theirs_mask & ~trained).any()


def test_what_follows_the_last_answer_is_left_out():
    assert answers(CHAT_TEMPLATE, (*TALK, ("user", "Thanks!")))[1] == answers(CHAT_TEMPLATE)[1]


def test_a_conversation_that_starts_with_an_answer():
    assert answers(CHAT_TEMPLATE, TALK[2:])[0] == ["It is 4.<|im_end|>", "Yes.<|im_end|>"]


def test_an_answer_that_quotes_the_question_is_found_at_its_own_place():
    runs, _, _ = answers(
        CHAT_TEMPLATE, (("user", "Yes."), ("assistant", "Yes."), ("user", "Yes."), ("assistant", "Yes."))
    )
    assert runs == ["Yes.<|im_end|>"] * 2


def test_todays_date_is_no_part_of_the_data():
    dated = "{{ strftime_now('%d %b %Y') }}" + CHAT_TEMPLATE
    _, ids, _ = answers(dated)
    assert tiny_tokenizer().decode(ids).startswith("26 Jul 2024<")


@pytest.mark.parametrize(
    ("template", "turns", "message"),
    [
        (None, TALK, "no chat template"),
        (UNSTABLE, TALK, "differently once the conversation"),
        (LLAMA2, TALK, "refuses this conversation .system, user, assistant, user, assistant.: Only user"),
    ],
)
def test_errors_name_the_document(template, turns, message):
    tokenizer = tiny_tokenizer(chat_template=template)
    with pytest.raises(LlmtuneError, match=message) as caught:
        tokenize_conversations([chat("books/7", *turns)], tokenizer)
    assert caught.value.where == "document books/7"


@pytest.mark.real
def test_smollm2_against_a_conversation_put_together_by_hand():
    from llmtune.models.find import resolve
    from llmtune.models.load import load_tokenizer
    from llmtune.models.reference import ModelReference
    from llmtune.monitor import Monitor

    tokenizer = load_tokenizer(resolve(ModelReference.parse("smollm2-135m-instruct-q4"), Monitor()))

    def ids_of(string):
        return tokenizer(string, add_special_tokens=False)["input_ids"]

    start, end, line = ids_of("<|im_start|>"), ids_of("<|im_end|>"), ids_of("\n")
    assert len(start) == len(end) == 1
    parts = [
        (start + ids_of("system\nBe brief.") + end + line, False),
        (start + ids_of("user\nWhat is 2+2?") + end + line + start + ids_of("assistant\n"), False),
        (ids_of("It is 4.") + end, True),
        (line + start + ids_of("user\nSure?") + end + line + start + ids_of("assistant\n"), False),
        (ids_of("Yes.") + end, True),
    ]
    ids, trained = tokenize_conversations([chat("talk", *TALK)], tokenizer)[0]
    assert ids == [token for tokens, _ in parts for token in tokens]
    assert trained.tolist() == [wanted for tokens, wanted in parts for _ in tokens]


def test_documents_of_text_are_not_conversations():
    assert text("a", "b").messages is None
    assert isinstance(chat("a", ("user", "b")).messages[0], Message)
