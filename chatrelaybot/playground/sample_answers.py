"""What the sample backend says: prepared answers in Markdown, chosen by words of the question.

A question that begins with `!` is an order for a failure or a size, to try the bot by hand:

| order | what the backend does |
|---|---|
| `!error` | begins an answer, then reports that it failed |
| `!slow 20` | says nothing but that it is alive for 20 seconds, then answers |
| `!hang` | takes the question and never says a word |
| `!cut` | breaks off in the middle of a block of code |
| `!refuse` | does not accept the question (HTTP 422) |
| `!busy 5` | asks to be asked again in 5 seconds (HTTP 503) |
| `!long 30000` | answers with 30000 characters, quickly |
| `!json` | answers with one JSON object, even where a stream was asked for |
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass


class Ending(enum.Enum):
    """How an answer ends."""

    DONE = "done"  #: as the dialect promises
    ERROR = "error"  #: with the dialect's error
    CUT = "cut"  #: the connection is closed
    NEVER = "never"  #: not at all


@dataclass(frozen=True, slots=True)
class Script:
    """How one question is answered."""

    text: str
    ending: Ending = Ending.DONE
    #: HTTP status; with another than 200 the text is the error's words.
    status: int = 200
    retry_after: int | None = None
    #: Seconds before the first word, with signs of life.
    pause: float = 0.0
    #: How many times faster than usual the words come.
    speed: float = 1.0
    is_json: bool = False


def script(question: str) -> Script:
    """Choose the answer to a question."""
    word, _, rest = question.strip().partition(" ")
    if order := _ORDERS.get(word.lower()):
        return order(rest.strip())
    if word.startswith("!"):
        return Script(f"I do not know the order `{word[:40]}`. These I know:\n\n{_ORDER_TABLE}")
    return Script(_prepared(question))


def tokens(text: str) -> list[str]:
    """Cut a text into pieces of about a word; joined they are the text again."""
    return re.findall(r"\s*\S+|\s+\Z", text)


# --- orders ---------------------------------------------------------------------------------


def _number(text: str, *, default: int, most: int) -> int:
    found = re.match(r"[\d_,]*\d", text)
    return min(int(re.sub(r"\D", "", found.group())), most) if found else default


def _error(_: str) -> Script:
    text = "Here is what I found so far:\n\n1. The request arrived.\n2. The next step"
    return Script(text, ending=Ending.ERROR)


def _slow(argument: str) -> Script:
    seconds = _number(argument, default=20, most=3600)
    return Script(f"That took me **{seconds} s** of thought.", pause=seconds)


def _hang(_: str) -> Script:
    return Script("", ending=Ending.NEVER)


def _cut(_: str) -> Script:
    text = "The plan is simple:\n\n```python\ndef main() -> None:\n    for step in plan:"
    return Script(text, ending=Ending.CUT)


def _refuse(_: str) -> Script:
    return Script("the sample backend was told to refuse this question", status=422)


def _busy(argument: str) -> Script:
    seconds = _number(argument, default=5, most=3600)
    return Script("the sample backend was told to be busy", status=503, retry_after=seconds)


def _long(argument: str) -> Script:
    size = max(_number(argument, default=30_000, most=1_000_000), 1)
    return Script(_text_of(size), speed=20.0)


def _json(argument: str) -> Script:
    return Script(
        _prepared(argument or "What does an answer in one piece look like?"), is_json=True
    )


_ORDERS: dict[str, Callable[[str], Script]] = {
    "!error": _error,
    "!slow": _slow,
    "!hang": _hang,
    "!cut": _cut,
    "!refuse": _refuse,
    "!busy": _busy,
    "!long": _long,
    "!json": _json,
}

_ORDER_TABLE = """\
| order | what I do |
|---|---|
| `!error` | begin an answer, then report that I failed |
| `!slow 20` | think for 20 seconds, then answer |
| `!hang` | take the question and never say a word |
| `!cut` | break off in the middle of a block of code |
| `!refuse` | not accept the question |
| `!busy 5` | ask to be asked again in 5 seconds |
| `!long 30000` | answer with 30000 characters |
| `!json` | answer in one piece |"""


def _text_of(size: int) -> str:
    """Write exactly `size` characters of Markdown; the end says that it is the end."""
    end = "\n\nThis is the end."
    parts = [f"# An answer of {size} characters"]
    length, number = len(parts[0]), 0
    while length < size:
        number += 1
        parts.append(_section(number))
        length += len(parts[-1]) + 2
    text = "\n\n".join(parts)
    return text[: size - len(end)] + end if size > 10 * len(end) else text[:size]


def _section(number: int) -> str:
    words = " ".join(f"Sentence {number}.{part} says little, but it is text." for part in range(12))
    items = "\n".join(f"- point {number}.{part}, with a `detail`" for part in range(3))
    return f"## Part {number}\n\n{words}\n\n{items}"


# --- prepared answers -----------------------------------------------------------------------


def _prepared(question: str) -> str:
    """Choose by the question's words, and say whose words these are."""
    # Markdown of the question stays what it is; its lines become one, so that a quote holds it.
    line = " ".join(question.split())
    short = line if len(line) <= 300 else f"{line[:299]}…"
    if re.search(r"\b(what can you do|who are you|what are you|help)\b", line.lower()):
        return _ABOUT.replace("ORDERS", _ORDER_TABLE)
    for pattern, template in _THEMES:
        if re.search(pattern, line.lower()):
            return template.replace("QUESTION", short) + _SIGNED
    return _ECHO.replace("QUESTION", short) + _SIGNED


_SIGNED = "\n\n_A prepared answer of the sample backend. Set `BACKEND_URL` to ask your own._"

_ABOUT = """\
## What I can do

I am the **sample backend** of ChatRelayBot. I write prepared answers, word by word, so that \
you can see the bot at work; there is no language model behind me.

- **The bot** takes your message in Slack, sends it to a backend over HTTP, and edits its reply \
while the text arrives.
- **I** am such a backend: I speak the dialects `relay` and `openai`, as a stream or in one piece.
- **Yours** takes my place as soon as `BACKEND_URL` names it.

Ask me about some code, a deploy, a comparison or a plan, and I answer with headings, lists, \
tables and code. To see how the bot takes trouble, give me an order:

ORDERS

You can ask me without the bot, too:

```bash
curl -N "$BACKEND_URL" \\
  -H 'Accept: text/event-stream' -H 'Content-Type: application/json' \\
  -d '{"user_id": "U1", "query": "What can you do?", "channel_id": "C1"}'
```"""

_CODE = """\
## A sketch in Python

> QUESTION

The shortest version that I would be glad to read again in a year:

```python
from collections import Counter
from pathlib import Path


def busiest(log: Path, count: int = 3) -> list[tuple[str, int]]:
    \"\"\"Name the clients with the most requests.\"\"\"
    with log.open(encoding="utf-8") as lines:
        clients = Counter(line.split(maxsplit=1)[0] for line in lines if line.strip())
    return clients.most_common(count)
```

### Why like this

- It reads **line by line**, so the size of the file does not matter.
- `Counter` says what is meant; a dictionary would only say how.
- Empty lines are passed over rather than counted as a client.

| input | result |
|---|---|
| an empty file | `[]` |
| `a x`, `b y`, `a z` | `[("a", 2), ("b", 1)]` |"""

_DEPLOY = """\
## A careful deploy

> QUESTION

1. Freeze the branch and wait for **green checks**.
2. Deploy to one machine, and watch its errors for ten minutes.
3. Go on to the others, one by one.
4. Say in the channel that it is done.

| signal | go on | roll back |
|---|---|---|
| error rate | below 0.1 % | above 1 % |
| slowest answers (p99) | below 400 ms | above 2 s |
| queue | shrinking | growing for 5 min |

### The way back

Keep it as short as one line, and try it _before_ it is needed:

```bash
sudo ln -sfn /opt/app/previous /opt/app/current && sudo systemctl restart app
```"""

_COMPARE = """\
## Side by side

> QUESTION

| | the first | the second |
|---|---|---|
| quick to begin with | **yes** | a day of set-up |
| at a hundred times the load | strained | at ease |
| when it breaks | easy to look into | needs its own dashboard |

### How I would choose

- **Begin with the first** while one machine is enough.
- Go over to the second when its price is smaller than that of waiting.
- Measure rather than believe:

```bash
hyperfine --warmup 3 './first --input sample' './second --input sample'
```

In short: the first today, and a date on which to ask again."""

_PLAN = """\
## In three steps

> QUESTION

1. **Find out** what is really asked, and write it down in one sentence.
2. **Try** the smallest thing that could answer it.
3. **Look** at what happened, then decide about the rest.

### Who does what

| step | takes | done when |
|---|---|---|
| find out | an hour | the sentence is agreed on |
| try | two days | someone outside the team has used it |
| look | half a day | the decision is written down |

The sentence could begin like this:

```text
As soon as <event>, <person> should see <result> within <time>.
```

- Keep the first round small: what you learn from it changes the second."""

_ECHO = """\
## You asked

> QUESTION

I am the **sample backend**, so I cannot know that. But your question went all the way: from your \
message through the bot to me, and my words are on their way back to you as I write them.

### What happened on the way

1. The bot wrote your question down, so that nothing is lost.
2. It sent it to me:

```json
{"user_id": "U…", "query": "…", "channel_id": "C…"}
```

3. It edits its reply while I write.

| piece | part in this answer |
|---|---|
| the bot | asks, edits, keeps within Slack's limits |
| the backend | thinks; in this case it only pretends to |

Ask me **“What can you do?”** for more."""

#: The first pattern that is found in the question chooses.
_THEMES = (
    (r"\b(code|python|functions?|script|program|regex|sql|bugs?)\b", _CODE),
    (r"\b(deploy\w*|releases?|roll ?(back|out)|ship)\b", _DEPLOY),
    (r"\b(compare|comparison|versus|vs|differences?|better)\b", _COMPARE),
    (r"\b(plan|steps|why|explain|summar\w+|how (can|could|do|should|to|would))\b", _PLAN),
)
