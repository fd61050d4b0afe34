"""What a person at the page sees, in a real browser, in front of a fake engine."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.waiting import eventually
from tests.web.behind_a_proxy import PathProxy
from tests.web.conftest import KEY, Serve, Server, free_port
from tests.web.fake_openai import WAIT_SECONDS, FakeOpenAI, Script, Step, words

Tab = Callable[..., Page]
FIRST_TOKEN_SECONDS = 61
EXPECT_MILLISECONDS = 20_000
expect.set_options(timeout=EXPECT_MILLISECONDS)


def ask(page: Page, question: str) -> None:
    """Type a question and send it."""
    box = page.locator("#question textarea")
    box.fill(question)
    box.press("Enter")


def answers(page: Page) -> Locator:
    """Bubbles of the engine and of the page itself."""
    return page.locator("#conversation .bot.message")


def settled(page: Page) -> None:
    """The answer has ended: one can send again."""
    expect(page.locator("#question .submit-button")).to_be_visible()


def says(*steps: Step) -> Script:
    """The same answer to every question."""
    return lambda _request: steps


@pytest.fixture(scope="module", autouse=True)
def slow_tab(server: Server, browser: Browser, serve: Serve) -> Iterator[Page]:
    """A tab that waits a minute for its first token, beside all other tests."""
    fake = FakeOpenAI()
    fake.script = lambda _request: [lambda: threading.Event().wait(FIRST_TOKEN_SECONDS), *words("at last"), "stop"]
    page = browser.new_context().new_page()
    page.goto(serve("--api", fake.url).url)
    ask(page, "Are you there?")
    expect(page.locator("#conversation")).to_contain_text("Waiting for the first token")
    yield page
    page.context.close()
    fake.close()


def test_a_question_streams_its_answer(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    go_on = threading.Event()
    fake_engine.key = KEY
    fake_engine.script = says(
        *words("Here is **bold** text"), lambda: go_on.wait(WAIT_SECONDS),
        {"content": "and code:\n\n```python\ndef f(x):\n    return x\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"},
        "stop",
    )  # fmt: skip
    page = tab(server.url)
    ask(page, "Show me something")
    try:
        expect(answers(page)).to_contain_text("Here is bold text")
        expect(answers(page)).not_to_contain_text("and code")
        expect(page.locator("#question .stop-button")).to_be_visible()
    finally:
        go_on.set()
    settled(page)
    expect(answers(page).locator("strong")).to_have_text("bold")
    expect(answers(page).locator("pre code")).to_contain_text("return x")
    expect(answers(page).locator("td").first).to_have_text("1")
    frame = page.locator("main").bounding_box()
    assert frame is not None
    assert abs(frame["x"] + frame["width"] / 2 - 600) <= 1, "the page is not in the middle of the window"
    (request,) = fake_engine.requests
    assert request["model"] == "tiny"
    assert request["messages"] == [{"role": "user", "content": "Show me something"}]


def test_the_header_says_what_serves(server: Server, tab: Tab) -> None:
    page = tab(server.url)
    expect(page.locator("#header h1")).to_have_text("tiny")
    assert page.locator("#header .fact").all_inner_texts() == [
        "LMDeploy 0.18.0, TurboMind", "KV cache Int4", "context 32,768 tokens",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "thinking",
    [
        [{"reasoning_content": "Is it four?"}, {"content": "It is 4."}],
        [{"reasoning": "Is it four?"}, {"content": "It is 4."}],
        [{"content": "<thi"}, {"content": "nk>Is it four?</th"}, {"content": "ink>\n\nIt is 4."}],
        [{"content": "Is it four?"}, {"content": "</think>It is 4."}],
    ],
    ids=["reasoning_content", "reasoning", "tags", "closing tag only"],
)
def test_thoughts_are_folded_and_stay_out_of_the_conversation(
    server: Server, fake_engine: FakeOpenAI, tab: Tab, thinking: list[Step]
) -> None:
    fake_engine.script = says(*thinking, "stop")
    page = tab(server.url)
    ask(page, "2 + 2?")
    settled(page)
    expect(answers(page)).to_contain_text("It is 4.")
    thought = page.get_by_text("Is it four?")
    expect(thought).to_be_hidden()
    page.get_by_text("Thoughts").click()
    expect(thought).to_be_visible()
    expect(page.locator("#conversation")).not_to_contain_text("think>")
    ask(page, "Sure?")
    settled(page)
    eventually(lambda: len(fake_engine.requests) == 2, 10)
    assert fake_engine.requests[1]["messages"] == [
        {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "It is 4."},
        {"role": "user", "content": "Sure?"},
    ]  # fmt: skip


def test_stop_ends_the_engines_work_and_keeps_what_came(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    def endless(_request: dict[str, object]) -> Iterator[Step]:
        pause = threading.Event()
        for number in range(100_000):
            yield {"content": f"{number} "}
            yield lambda: pause.wait(0.02)

    fake_engine.script = endless
    page = tab(server.url)
    ask(page, "Count")
    expect(answers(page)).to_contain_text("20 21 22")
    page.locator("#question .stop-button").click()
    assert fake_engine.left.wait(20), "the engine was left at work"
    settled(page)
    expect(answers(page)).to_contain_text("20 21 22")
    fake_engine.script = says(*words("still here"), "stop")
    ask(page, "And now?")
    expect(answers(page).last).to_contain_text("still here")


def test_stop_before_the_first_token_leaves_nothing_waiting(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    fake_engine.script = says(lambda: threading.Event().wait(3), *words("late"), "stop")
    page = tab(server.url)
    ask(page, "Anything?")
    expect(page.locator("#conversation")).to_contain_text("Waiting for the first token")
    page.locator("#question .stop-button").click()
    settled(page)
    expect(page.locator("#conversation")).not_to_contain_text("Waiting")


def test_the_keyboard_alone_asks_stops_and_asks_again(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    """Every button has a name that a screen reader says, and the focus reaches it."""
    pause = threading.Event()
    endless: list[Step] = [{"content": "word "}, lambda: pause.wait(0.05)]
    fake_engine.script = lambda _request: endless * 5000
    page = tab(server.url)
    expect(page.get_by_role("textbox", name="Question")).to_be_focused()
    page.keyboard.type("Speak")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(answers(page)).to_contain_text("word word")
    page.get_by_role("textbox", name="Question").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    settled(page)
    assert fake_engine.left.wait(30), "the engine goes on for nobody"
    for button in page.get_by_role("button").all():
        expect(button).to_have_accessible_name(re.compile(r"\w"))
    fake_engine.script = says(*words("well again"), "stop")
    page.get_by_role("textbox", name="Question").focus()
    page.keyboard.type("And now?")
    page.keyboard.press("Enter")
    expect(answers(page).last).to_contain_text("well again")


def test_the_last_answer_is_made_anew(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    count = iter(range(1, 10))
    fake_engine.script = lambda _request: [*words(f"answer number {next(count)}"), "stop"]
    page = tab(server.url)
    ask(page, "Once more")
    settled(page)
    expect(answers(page)).to_contain_text("answer number 1")
    page.get_by_label("Retry").click()
    expect(answers(page)).to_contain_text("answer number 2")
    settled(page)
    expect(page.locator("#conversation")).not_to_contain_text("answer number 1")
    eventually(lambda: len(fake_engine.requests) == 2, 10)
    assert fake_engine.requests[0]["messages"] == fake_engine.requests[1]["messages"]


def test_settings_reach_the_engine(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    fake_engine.script = says(*words("short"), "length")
    page = tab(server.url)
    page.get_by_text("Settings").click()
    page.locator("#system textarea").fill("You are a pirate.")
    page.get_by_label("Longest answer").fill("7")
    page.get_by_label("number input for Temperature").fill("0.2")
    page.get_by_label("number input for Temperature").press("Tab")
    ask(page, "Who are you?")
    settled(page)
    request = eventually(lambda: fake_engine.requests, 10)[0]
    assert request["messages"][0] == {"role": "system", "content": "You are a pirate."}
    assert (request["temperature"], request["max_tokens"]) == (0.2, 7)
    expect(page.locator("#conversation")).to_contain_text("The answer ends here: 7 tokens is its limit")


def test_a_model_of_a_small_context_is_not_asked_for_more(serve: Serve, fake_engine: FakeOpenAI, tab: Tab) -> None:
    """vLLM refuses a limit that goes beyond its context; the page then ends the answer itself."""
    small = serve("--api", fake_engine.url, "--model", "tiny", "--context", "512")
    fake_engine.script = says(*words("short enough"), "stop")
    page = tab(small.url)
    ask(page, "Who are you?")
    expect(answers(page)).to_contain_text("short enough")
    settled(page)
    assert "max_tokens" not in eventually(lambda: fake_engine.requests, 10)[0]
    fake_engine.script = says(*words("it goes on"), "length")
    ask(page, "And then?")
    expect(page.locator("#conversation")).to_contain_text("the model's context is full")
    settled(page)
    page.get_by_text("Settings").click()
    page.get_by_label("Longest answer").fill("300")
    page.get_by_label("Longest answer").press("Tab")
    pause = threading.Event()
    fake_engine.left.clear()
    fake_engine.script = lambda _request: [
        step for _ in range(5000) for step in ({"content": "word "}, lambda: pause.wait(0.002))
    ]
    ask(page, "Speak")
    expect(page.locator("#conversation")).to_contain_text("The answer ends here: 300 tokens is its limit")
    assert fake_engine.left.wait(30), "the engine goes on for nobody"
    settled(page)


def test_an_error_is_one_sentence_and_the_page_goes_on(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    page = tab(server.url)
    broken: list[tuple[list[Step], str, str]] = [
        ([*words("half an"), "cut"], "half an", "The answer broke off"),
        (['data: {"error": {"message": "out of blocks", "code": 500}}\n\n'], "", "reports an error: out of blocks"),
        (["data: {not json\n\n"], "", "The engine reports an error"),
        (["stop"], "", "The engine gave an empty answer"),
    ]
    for steps, kept, sentence in broken:
        fake_engine.script = says(*steps)
        ask(page, "Go on")
        settled(page)
        expect(answers(page).last.locator("blockquote")).to_contain_text(sentence)
        expect(answers(page).last).to_contain_text(kept)
    refusals = [
        (400, "This model's maximum context length is 2048 tokens", "refuses the request: This model's maximum"),
        (404, "The model `x` does not exist", "doesn't know what the page requests: The model"),
        (429, "busy", "takes no more requests now"),
        (500, "CUDA error.", "failed with HTTP 500: CUDA error. Try again in a moment."),
    ]
    for status, message, sentence in refusals:
        fake_engine.refusal = (status, message)
        ask(page, "Go on")
        settled(page)
        expect(answers(page).last).to_contain_text(sentence)
    fake_engine.refusal = None
    parts: list[Step] = [
        {"content": [{"type": "text", "text": "well "}]}, {"refusal": "again"},
        {"tool_calls": [{"index": 0, "function": {"name": "weather", "arguments": "{}"}}]},
    ]  # fmt: skip
    fake_engine.script = says(*parts, "stop")
    ask(page, "And now?")
    expect(answers(page).last).to_contain_text("well again")
    expect(answers(page).last).to_contain_text("weather {}")
    assert fake_engine.requests[-1]["messages"] == [
        {"role": "user", "content": "Go on"}, {"role": "assistant", "content": "half an "},
        {"role": "user", "content": "And now?"},
    ]  # fmt: skip


def test_a_refused_key_is_said(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    fake_engine.key = "another one"
    page = tab(server.url)
    expect(page.locator("#banner")).to_contain_text("The engine refuses this page's API key")
    ask(page, "Let me in")
    settled(page)
    expect(answers(page).last).to_contain_text("check that the page and the engine use the same Secret")


def test_the_page_is_there_before_the_engine(serve: Serve, tab: Tab) -> None:
    port = free_port()
    early = serve("--api", f"http://127.0.0.1:{port}")
    page = tab(early.url)
    expect(page.locator("#banner")).to_contain_text("it may still be starting, or be stopped")
    ask(page, "Hello?")
    settled(page)
    expect(answers(page).last).to_contain_text(f"The engine can't be reached at http://127.0.0.1:{port}/v1")
    fake = FakeOpenAI(model="late-model", port=port)
    try:
        expect(page.locator("#banner .trouble")).to_have_count(0)
        expect(page.locator("#header h1")).to_have_text("late-model")
        expect(page.locator("#header")).to_contain_text("context 2,048 tokens")
        ask(page, "And now?")
        expect(answers(page).last).to_contain_text("You said: And now?")
    finally:
        fake.close()


def test_two_tabs_stream_at_once_and_apart(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    both = threading.Barrier(2, timeout=WAIT_SECONDS)
    fake_engine.script = lambda request: [
        {"content": "begun "}, both.wait, *words(f"for {request['messages'][-1]['content']}"), "stop",
    ]  # fmt: skip
    left, right = tab(server.url), tab(server.url)
    ask(left, "the left one")
    ask(right, "the right one")
    for page, mine, other in ((left, "left", "right"), (right, "right", "left")):
        expect(answers(page)).to_contain_text(f"begun for the {mine} one")
        expect(page.locator("#conversation")).not_to_contain_text(other)


def test_a_closed_tab_ends_the_engines_work(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    pause = threading.Event()
    endless: list[Step] = [{"content": "word "}, lambda: pause.wait(0.05)]
    fake_engine.script = lambda _request: endless * 5000
    page = tab(server.url)
    ask(page, "Speak")
    expect(answers(page)).to_contain_text("word word")
    page.close()
    assert fake_engine.left.wait(30), "the engine goes on for nobody"


def test_a_telephone_needs_no_scrolling_sideways(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    lines = "\n\n".join(f"Line {number}." for number in range(60))
    fake_engine.script = says({"content": "W" * 300 + "\n\n```\n" + "x" * 300 + f"\n```\n\n{lines}"}, "stop")
    page = tab(server.url, 360, 640)
    ask(page, "o" * 200)
    settled(page)
    expect(answers(page).locator("pre")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    # The conversation scrolls, to the end of the answer; the header and the question stay in view.
    expect(answers(page).get_by_text("Line 59.")).to_be_in_viewport()
    expect(page.locator("#header h1")).to_be_in_viewport()
    expect(page.locator("#question .submit-button")).to_be_in_viewport(ratio=1)
    for part in ("#header", "#question", "#settings"):
        box = page.locator(part).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360


FIRST_LETTER_FROM_THE_LEFT = """e => {
    const text = document.createTreeWalker(e, NodeFilter.SHOW_TEXT).nextNode(), range = document.createRange();
    range.setStart(text, 0);
    range.setEnd(text, 1);
    const letter = range.getBoundingClientRect(), box = e.getBoundingClientRect();
    return (letter.x + letter.width / 2 - box.x) / box.width;
}"""


def begins(paragraph: Locator, side: str) -> None:
    """Wait until a paragraph begins at a side: it has no width while the page draws it anew."""
    eventually(
        lambda: (
            (place := paragraph.evaluate(FIRST_LETTER_FROM_THE_LEFT)) is not None
            and (place > 0.5 if side == "right" else place < 0.5)
        ),
        why=lambda: f"{paragraph} begins at {paragraph.evaluate(FIRST_LETTER_FROM_THE_LEFT)} of its width",
    )


def test_each_paragraph_runs_in_the_direction_of_its_script(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    """In the answer, in the question and in the box where it is typed; code stays from left to right."""
    arabic = "\u0645\u0631\u062d\u0628\u0627 123."
    markdown = f"{arabic}\n\n- {arabic}\n\nplain words {arabic}\n\n```\n{arabic}\n```\n\n{'wide ' * 60}"
    fake_engine.script = says({"content": markdown}, "stop")
    page = tab(server.url)
    box = page.locator("#question textarea")
    expect(box).to_have_css("unicode-bidi", "plaintext")
    ask(page, arabic)
    settled(page)
    prose = answers(page).locator(".prose").first
    begins(prose.locator("p").first, "right")
    begins(prose.locator("li").first, "right")
    begins(prose.locator("p", has_text="plain words"), "left")
    assert prose.locator("pre").evaluate("e => getComputedStyle(e).direction") == "ltr"
    begins(page.locator("#conversation .user.message .prose p"), "right")


def test_thirty_thousand_tokens_are_pasted(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    text = " ".join(f"word{number % 997}" for number in range(30_000))
    page = tab(server.url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("text => navigator.clipboard.writeText(text)", text)
    page.locator("#question textarea").click()
    page.keyboard.press("Control+v")
    page.keyboard.press("Enter")
    expect(answers(page)).to_contain_text("You said: word0")
    settled(page)
    assert fake_engine.requests[0]["messages"][-1]["content"] == text


def test_what_a_model_writes_is_not_run_and_loads_nothing(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    fake_engine.script = says(
        {"content": "![p](https://other.example/p.png) <img src='https://other.example/q.png'>"},
        {"content": "<script>document.title='taken'</script><b onclick='x'>done</b>"}, "stop",
    )  # fmt: skip
    page = tab(server.url)
    arrived: list[str] = []
    page.on("response", lambda response: arrived.append(response.url))
    ask(page, "Show me a picture")
    expect(answers(page)).to_contain_text("done")
    settled(page)
    assert [url for url in arrived if "other.example" in url] == []
    assert page.title() != "taken"
    assert page.locator("#conversation script, #conversation [onclick]").count() == 0


TAKEN = "document.title='taken'"
OTHER = "https://other.example"
ATTACKS = (
    f"[a](javascript:{TAKEN}) [b](JaVaScRiPt&#58;{TAKEN}) [c](data:text/html,x) [d](vbscript:x) <javascript:{TAKEN}>",
    f'<svg onload="{TAKEN}"><a xlink:href="javascript:{TAKEN}">x</a></svg>',
    f'<iframe srcdoc="<script>parent.{TAKEN}</script>"></iframe><object data=x></object><embed src=x>',
    f'<img src=x onerror="{TAKEN}"><video><source onerror="{TAKEN}"></video>',
    f"<meta http-equiv=refresh content='0;url={OTHER}/m'><link rel=prefetch href={OTHER}/l><base href={OTHER}/>",
    f'<form action={OTHER}/f><input name=password autofocus onfocus="{TAKEN}"></form>',
    f"<style>@import '{OTHER}/s.css'; #question{{background:url({OTHER}/b)}}</style>",
    f"<a href={OTHER}/ style='position:fixed!important;inset:0;z-index:99999;width:9999px;height:9999px'>over all</a>",
    f"$$\\href{{javascript:{TAKEN}}}{{x}}$$ $$\\includegraphics{{{OTHER}/k.png}}$$",
    r"$$\htmlStyle{position:fixed}{y}$$",
    f'<math><mtext></mtext><mglyph><style><!--</style><img src=x onerror="{TAKEN}">--></mglyph></math>',
    f'```mermaid\ngraph TD; A-->B; click A "javascript:{TAKEN}"\n```',
    "```html\n<script>1</script>\n```",
)
HARMFUL = """() => [...document.querySelectorAll('#conversation *')].filter(e =>
    ['SCRIPT', 'IFRAME', 'OBJECT', 'EMBED', 'META', 'LINK', 'BASE'].includes(e.tagName)
    || (e.tagName === 'STYLE' && !e.textContent.startsWith('#mermaid-'))
    || [...e.attributes].some(a => a.name.startsWith('on') || /^\\s*(javascript|vbscript|data:text)/i.test(a.value))
    ).map(e => e.outerHTML.slice(0, 200))"""
BEYOND = """() => {
    const box = document.querySelector('#question').getBoundingClientRect();
    const places = [[2, 2], [innerWidth - 3, 3], [box.x + box.width / 2, box.y + box.height / 2], [3, innerHeight - 3]];
    return places.map(place => document.elementFromPoint(...place)).filter(e => e && e.closest('.message'))
        .map(e => e.outerHTML.slice(0, 200));
}"""


def test_no_markup_of_a_model_acts_or_leaves_its_bubble(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    text = "\n\n".join(ATTACKS)
    fake_engine.script = says({"reasoning": text}, {"content": text}, *words("the end"), "stop")
    page = tab(server.url)
    arrived: list[str] = []
    page.on("response", lambda response: arrived.append(response.url))
    ask(page, text)
    expect(answers(page).last).to_contain_text("the end")
    settled(page)
    assert page.evaluate(HARMFUL) == []
    assert page.evaluate(BEYOND) == []
    page.evaluate("document.querySelectorAll('#conversation form').forEach(form => form.submit())")
    page.wait_for_timeout(200)
    assert [url for url in arrived if "other.example" in url] == []
    assert page.url == server.url
    assert page.title() != "taken"


def test_a_page_of_another_site_can_neither_ask_nor_read(server: Server) -> None:
    host = server.url.split("/")[2]
    own = f"http://{host}"
    for headers, taken in (
        ({"Origin": "https://evil.example", "Host": "chat.example.com"}, False),
        ({"Origin": "null", "Host": "chat.example.com"}, False),
        ({"Origin": "http://[", "Host": "chat.example.com"}, False),
        ({"Origin": own, "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": own, "Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "https://evil.example", "X-Forwarded-Host": "chat.example.com"}, False),
        ({"Origin": own}, True),
        ({"Origin": own, "Sec-Fetch-Site": "same-origin", "Host": "inner"}, True),
        ({"Origin": "https://chat.example.com", "Host": "inner", "X-Forwarded-Host": "chat.example.com"}, True),
        ({}, True),
    ):
        status = _status(f"{server.url}gradio_api/queue/join", b"{}", headers | {"Content-Type": "application/json"})
        assert (status != 403) is taken, headers
    for method in ("GET", "OPTIONS"):
        said = {"Origin": "https://evil.example", "Host": "chat.example.com", "Access-Control-Request-Method": "POST"}
        assert [name for name in _head(server, method, "/config", said) if name.startswith("access-control")] == []


def test_a_body_without_a_length_is_refused(server: Server) -> None:
    # Headers alone: the server closes the connection when it refuses, and a body on its way would break the pipe.
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest("POST", "/gradio_api/queue/join")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    assert connection.getresponse().status == 411
    connection.close()
    assert _status(f"{server.url}gradio_api/queue/join", b"", {"Content-Length": "99999999999"}) == 413


def test_a_password_keeps_others_out(serve: Serve, fake_engine: FakeOpenAI, tab: Tab) -> None:
    locked = serve("--api", fake_engine.url, "--user-name", "team", environment={"CHAT_PAGE_PASSWORD": "opensesame\n"})
    page = tab(locked.url)
    expect(page.locator("input[type=password]")).to_be_visible()
    assert page.locator("#question").count() == 0
    for path in ("config", "gradio_api/info", "gradio_api/queue/data?session_hash=x"):
        assert _status(locked.url + path) == 401, path
    assert _status(locked.url + "gradio_api/queue/join", b"{}") == 401
    assert _status(locked.url + "gradio_api/run/predict", b"{}") == 401
    for password, there in (("wrong", False), ("opensesame", True)):
        page.locator("input").first.fill("team")
        page.locator("input[type=password]").fill(password)
        page.get_by_role("button", name=re.compile("log ?in", re.IGNORECASE)).click()
        expect(page.locator("#question")).to_have_count(int(there))
    ask(page, "Hello")
    expect(answers(page)).to_contain_text("You said: Hello")
    form = b"username=team&password=%d"
    guesses = [_status(f"{locked.url}login", form % number, {}) for number in range(12)]
    assert guesses == [400] * 9 + [429] * 3, "one attempt of ten was the wrong one above"
    assert _status(f"{locked.url}login/", b"username=team&password=opensesame", {}) == 429
    ask(page, "Still there?")
    expect(answers(page).last).to_contain_text("You said: Still there?")


def test_below_a_path_of_a_proxy(serve: Serve, fake_engine: FakeOpenAI, tab: Tab) -> None:
    """An Ingress that takes `/chat` off; the answer streams through it, and every part is asked for below the path."""
    rest = threading.Event()
    fake_engine.script = says(*words("first part"), lambda: rest.wait(WAIT_SECONDS), *words("the end"), "stop")
    behind = serve("--api", fake_engine.url, "--root-path", "/chat", environment={"CHAT_PAGE_PASSWORD": "opensesame"})
    proxy = PathProxy("/chat", behind.port)
    try:
        page = tab(proxy.url)
        page.locator("input").first.fill("chat")
        page.locator("input[type=password]").fill("opensesame")
        page.get_by_role("button", name=re.compile("log ?in", re.IGNORECASE)).click()
        ask(page, "Hello")
        expect(answers(page)).to_contain_text("first part")
        rest.set()
        expect(answers(page)).to_contain_text("the end")
        settled(page)
        cookies = [cookie for cookie in page.context.cookies() if cookie["name"].startswith("access-token")]
        assert {(one["path"], one["sameSite"], one["httpOnly"]) for one in cookies} == {("/chat", "Lax", True)}
    finally:
        rest.set()
        proxy.close()


def test_paths_that_the_page_does_not_need_are_closed(server: Server) -> None:
    for path in (
        "gradio_api/upload", "gradio_api/file=/etc/passwd", "gradio_api/proxy=https://other.example/", "docs",
        "monitoring", "gradio_api/stream/x", "assets/../../gradio_api/file=/etc/passwd", "gradio_api/mcp/",
        "gradio_api/vibe-edit/", "openapi.json",
    ):  # fmt: skip
        assert _status(server.url + path) == 404, path


def test_the_key_stays_in_the_server(server: Server, fake_engine: FakeOpenAI, tab: Tab) -> None:
    fake_engine.key = KEY
    page = tab(server.url)
    ask(page, "What is your key?")
    expect(answers(page)).to_contain_text("You said")
    texts = [page.content(), str(page.evaluate("JSON.stringify(window.gradio_config)")), server.log()]
    for path in ("", "config", "gradio_api/info"):
        with urlopen(server.url + path, timeout=10) as answer:
            texts.append(answer.read().decode())
    assert [text for text in texts if KEY in text] == []
    assert all(len(text) > 20 for text in texts)


def test_the_first_token_after_a_minute(slow_tab: Page) -> None:
    expect(answers(slow_tab)).to_contain_text("at last", timeout=FIRST_TOKEN_SECONDS * 1000)
    settled(slow_tab)


def test_nothing_was_loaded_from_elsewhere(server: Server, fake_engine: FakeOpenAI, requested: list[str]) -> None:
    """The last: over all that the browser and the server did before."""
    hosts = {urlsplit(url).hostname for url in requested if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
    # A picture that a model's Markdown names is refused by the browser before it leaves (see above).
    assert hosts - {"other.example"} == {"127.0.0.1"}
    assert len(requested) > 50
    engine = {f"('127.0.0.1', {fake_engine.port})", f"127.0.0.1:{fake_engine.port}"}
    assert server.connections() <= engine | {f"127.0.0.1:{server.port}", f"('127.0.0.1', {server.port})"}
    assert server.connections() & engine


def _status(url: str, body: bytes | Iterator[bytes] | None = None, headers: dict[str, str] | None = None) -> int:
    given = {"content-type": "application/json"} if body and headers is None else headers or {}
    try:
        with urlopen(Request(url, data=body, headers=given), timeout=10) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def _head(server: Server, method: str, path: str, headers: dict[str, str]) -> list[str]:
    """Names of an answer's headers."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        return [name.lower() for name, _ in connection.getresponse().getheaders()]
    finally:
        connection.close()
