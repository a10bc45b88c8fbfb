"""The page's pure functions, asked from inside the browser: markdown and the grammar of typed commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from bot.sandbox.server import Sandbox

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

MARKUP = """async text => {
    const { markdown } = await import("/page/markdown.js");
    const box = document.createElement("div");
    box.append(...markdown(text, { names: { user: id => (id === "1" ? "Bob" : null) } }));
    return box.innerHTML;
}"""

PARSED = """async line => {
    const { entries, parse, values } = await import("/page/commands.js");
    const option = (name, type, more) => ({ name, type, description: name, ...more });
    const imagine = { name: "imagine", description: "Draw", options: [
        option("prompt", 3, { required: true }), option("negative", 3), option("seed", 4, { min_value: 0 }),
        option("fast", 5)] };
    const use = { ...option("use", 1), options: [option("name", 3, { required: true })] };
    const all = entries([imagine, { name: "checkpoint", description: "Models", options: [option("list", 1), use] }]);
    const parsed = parse(line, all);
    if (!parsed) return null;
    const nobody = { user: () => null, role: () => null, channel: () => null };
    return [parsed.entry.name, values(parsed, nobody)];
}"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def page(chromium: Any) -> AsyncIterator[Any]:
    async with Sandbox() as sandbox:
        page = await chromium.new_page()
        await page.goto(sandbox.url)
        yield page
        await page.close()


@pytest.mark.parametrize(
    ("text", "markup"),
    [
        ("**bold** *it* _it_ ~~gone~~", "<p><strong>bold</strong> <em>it</em> <em>it</em> <s>gone</s></p>"),
        ("snake_case_name 2 * 3 * 4", "<p>snake_case_name 2 * 3 * 4</p>"),
        ("`**not bold**`", "<p><code>**not bold**</code></p>"),
        (r"\*plain\*", "<p>*plain*</p>"),
        ("-# small", '<p class="subtext">small</p>'),
        ("# Big\ntext", '<h3 class="heading-1">Big</h3><p>text</p>'),
        ("> one\n> two", "<blockquote><p>one<br>two</p></blockquote>"),
        ("- a\n- b\n  - c", "<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>"),
        ("1. a\n2. b", "<ol><li>a</li><li>b</li></ol>"),
        ("```py\nx = 1\n```after", "<pre><code>x = 1\n```after</code></pre>"),
        ("```\n/imagine <b>\n```", "<pre><code>/imagine &lt;b&gt;</code></pre>"),
        (
            "<@1> <@2>",
            '<p><span class="mention" title="1">@Bob</span> <span class="mention" title="2">@unknown</span></p>',
        ),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
    ],
)
async def test_markdown_becomes_elements(page: Any, text: str, markup: str) -> None:
    assert await page.evaluate(MARKUP, text) == markup


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/imagine a red apple", ["imagine", {"prompt": "a red apple"}]),
        ("/imagine prompt: a red apple seed: 7", ["imagine", {"prompt": "a red apple", "seed": 7}]),
        ("/imagine a sign: open seed: 7 fast: yes", ["imagine", {"prompt": "a sign: open", "seed": 7, "fast": True}]),
        ("/imagine seed: 7 prompt: x negative: y", ["imagine", {"seed": 7, "prompt": "x", "negative": "y"}]),
        ("/imagine prompt: x negative:", ["imagine", {"prompt": "x"}]),
        ("/checkpoint use tiny", ["checkpoint use", {"name": "tiny"}]),
        ("/checkpoint list", ["checkpoint list", {}]),
        ("/checkpoint", None),
        ("/imagined apple", None),
    ],
)
async def test_a_typed_line_becomes_a_command(page: Any, line: str, expected: object) -> None:
    assert await page.evaluate(PARSED, line) == expected
