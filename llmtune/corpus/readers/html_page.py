"""Which part of a page is its content: the main element, without navigation and page furniture."""

from __future__ import annotations

import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from llmtune.corpus.readers.licence import licence_at, licence_in, licence_named

_NEVER_TEXT = ", ".join((
    "script", "style", "noscript", "template", "svg", "canvas", "iframe", "object", "embed", "audio", "video", "map",
    "button", "input", "select", "textarea", "nav", "menu", "rp", "rt",
))  # fmt: skip
_ROLES = ("navigation", "banner", "contentinfo", "search", "menu", "menubar", "toolbar", "dialog", "alertdialog")
_FURNITURE_SELECTOR = ", ".join(
    [
        "form",
        "dialog",
        *(f'[role="{role}"]' for role in _ROLES),
        "[hidden]",
        '[aria-hidden="true"]',
        "a.headerlink",
        "a.anchor-link",
        "a.hash-link",
        "td.linenos",
        "td.gutter",
        "span.linenos",
        "span.lineno",
        "div.viewcode-block > a.viewcode-back",
        "a.viewcode-link",
    ]
)
# Whole class names and ids that mean furniture wherever they stand. `header` and `footer` alone also name parts of
# articles, so they count only as elements outside the main content.
_FURNITURE_NAME = re.compile(
    r"""^(?:
        (?:site|page|main|global|top|bottom|side|sub|local|docs?|mobile|primary|secondary|post|article|footer|header)?
        [-_]?(?:nav|navi|navbar|navbox|navigation|navheader|navfooter|navlinks)
        (?:[-_](?:bar|menu|links|header|footer|list|top|bottom|container))?
      | (?:site|page|global)[-_]?(?:header|footer)
      | (?:left|right|side|page|doc|docs|sphinx)?[-_]?sidebar(?:[-_]?(?:wrapper|left|right|primary|secondary|tree))?
      | breadcrumbs? | wy-breadcrumbs
      | (?:page[-_])?(?:toc|tocbox) | (?:local|page|table|doc|on-this-page)[-_]?(?:toc|of-contents)
      | toc-?(?:tree|wrapper|sidebar|list|container|tree-wrapper) | table-of-contents
      | (?:pagination|pager|prev-next|prevnext|rst-footer-buttons|related|related-pages|page-nav)
      | skip-?(?:link|nav|to-content|to-main) | back-?to-?top
      | edit-?(?:this-)?page(?:-link)? | mw-editsection | edit-on-github
      | (?:cookie|consent|gdpr)[-_]?(?:banner|notice|bar|consent|message)?
      | social(?:[-_]?(?:links|share|icons))? | share[-_]?(?:buttons|links)
      | advert(?:isement)?s? | ad-container | newsletter(?:-signup)? | search(?:[-_]?(?:box|form|bar))
      | sr-only | visually-hidden | screen-reader-text | noprint
    )$""",
    re.VERBOSE | re.IGNORECASE,
)
_KEEP_TAGS = frozenset({"html", "body", "main", "article"})
_CONTENTS = re.compile(r"toc$|.*contents$", re.IGNORECASE)
_TITLES = frozenset({"h1", "h2", "h3", "h4", "h5", "h6", "dt"})
_MAIN = ("main", '[role="main"]', "article", "#main-content", "#mw-content-text", "#content .document")
_LICENCE_LINKS = 'link[rel~="license" i], a[rel~="license" i]'
_LICENCE_METAS = ", ".join(f'meta[name="{name}" i]' for name in ("license", "dcterms.license", "dc.rights"))
_LEAST_SHARE = 0.3  # a main element with less than this share of the page's text is not the content
# Whatever an element is called, it is not furniture if more than this share of the words on the page that are no links
# stand in it: some servers put a form around every page, and `layout sidebar-left` may be the frame of it all.
_MOST_SHARE = 0.5
_LINK_LISTS = "ul, ol, table, p, div"
_LINK_LIST_LINKS = 8
_LINK_LIST_SHARE = 0.9


def title_of(tree: LexborHTMLParser) -> str | None:
    """The page's <title>, white space collapsed; None when there is none."""
    node = tree.css_first("head > title")
    return " ".join(node.text().split()) or None if node is not None else None


def licence_of(tree: LexborHTMLParser) -> str | None:
    """The licence that a page names in a meta element or by links with `rel="license"`. Links to several are of its
    pictures."""
    for node in tree.css(_LICENCE_METAS):
        tell = licence_in if (node.attributes.get("name") or "").lower() == "dc.rights" else licence_named
        if told := tell(node.attributes.get("content") or ""):
            return told
    linked = {licence_at(node.attributes.get("href") or "") for node in tree.css(_LICENCE_LINKS)}
    return linked.pop() if len(linked) == 1 else None


def content_of(tree: LexborHTMLParser, *, book: bool = False) -> LexborNode | None:
    """The element that holds the content, with furniture removed from the tree. The pages of a book are content from
    end to end, but for lists of links: the title of a chapter stands in a <header>, and notes are <aside>s."""
    body = tree.body
    if body is None:
        return None
    for node in body.css(_NEVER_TEXT):
        _remove(node)
    content = body if book else _without_furniture(body)
    for node in content.css(_LINK_LISTS):
        if node.mem_id != content.mem_id and _is_link_list(node):
            _remove(node)
    return content


def _without_furniture(body: LexborNode) -> LexborNode:
    """The element with the content of a page, without what is around it."""
    most = _MOST_SHARE * _unlinked(body)
    selected = {node.mem_id for node in body.css(_FURNITURE_SELECTOR)}
    named = body.css(f"{_FURNITURE_SELECTOR}, [class], [id]")
    for node in reversed(named):  # what is inside comes first: a frame is judged without the menus in it
        if (node.mem_id in selected or _is_furniture(node)) and not _holds_content(node, most):
            _remove(node)
    content = _main(body)
    if content is body:
        for node in body.css("header, footer, aside"):
            if not _inside_article(node):
                _remove(node)
    return content


def _remove(node: LexborNode) -> None:
    # `remove` takes the node out of the tree and leaves it alive: a node list may still hold what was inside of it.
    if node.parent is not None:
        node.remove()


def _holds_content(node: LexborNode, most: float) -> bool:
    """Whether most of the page's words stand in an element, and they are not links: a list of contents may be long."""
    unlinked = _unlinked(node)
    return unlinked > most and unlinked > _weight(node) / 2


def _unlinked(node: LexborNode) -> int:
    """Letters and digits outside links."""
    return _weight(node) - sum(_weight(link) for link in node.css("a[href]"))


def _is_furniture(node: LexborNode) -> bool:
    if node.tag in _KEEP_TAGS:
        return False
    attributes = node.attributes
    if any(map(_FURNITURE_NAME.match, (attributes.get("class") or "").split())):
        return True
    name = attributes.get("id") or ""
    return any(map(_FURNITURE_NAME.match, name.split())) and not _is_title(node, name)


def _is_title(node: LexborNode, name: str) -> bool:
    """Whether an id was made from a title: it is on a heading, a term or an anchor, or the first heading of an element
    says the same. Furniture may have such a heading too, over links or nothing, and a list of contents has."""
    if _CONTENTS.match(name):
        return False
    if node.tag in _TITLES or (node.tag == "a" and node.attributes.get("href") is None):
        return True
    heading = node.css_first("h1, h2, h3, h4, h5, h6")
    if heading is None or _letters(heading.text()) != _letters(name):
        return False
    return _holds_content(node, _weight(heading))


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text)).casefold()


def _main(body: LexborNode) -> LexborNode:
    """The first main element that holds a fair share of the page's text, else the body."""
    total = len(body.text())
    for selector in _MAIN:
        found = body.css(selector)
        if len(found) == 1 and len(found[0].text()) >= _LEAST_SHARE * total:
            return found[0]
    return body


def _inside_article(node: LexborNode) -> bool:
    parent = node.parent
    while parent is not None and parent.tag != "body":
        if parent.tag in ("article", "section", "main", "blockquote", "figure"):
            return True
        parent = parent.parent
    return False


def _is_link_list(node: LexborNode) -> bool:
    """Many links and nearly no other text: a menu without a name, or an index."""
    links = node.css("a[href]")
    if len(links) < _LINK_LIST_LINKS or node.css_first("pre") is not None:
        return False
    linked = sum(_weight(link) for link in links)
    return linked >= _LINK_LIST_SHARE * _weight(node)


def _weight(node: LexborNode) -> int:
    return sum(map(str.isalnum, node.text()))
