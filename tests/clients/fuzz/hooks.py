"""What every answer to a made-up document must be like, and values that lead beyond the first check of an id."""

import os
import re
from pathlib import Path

import schemathesis
from hypothesis import strategies as st
from schemathesis.graphql import nodes

ERRORS = Path(__file__).parents[3] / "docs" / "errors.md"
CODES = set(re.findall(r"^\| `(\w+)` \| (?:top level|.*else top level)", ERRORS.read_text(), re.MULTILINE))
# Whatever a document says, it is refused or done; nothing of it may break the server.
BROKEN = {"INTERNAL", "UNAVAILABLE"}
STATUSES = {200, 400, 401, 429}
# Ids of a conversation, a user, a message and so on that exist.
IDS = os.environ["CONFAB_FUZZ_IDS"].split(",")

schemathesis.graphql.scalar("ID", st.sampled_from(IDS).map(nodes.String) | st.text(max_size=40).map(nodes.String))
schemathesis.graphql.scalar("DateTime", st.just("2030-01-31T12:00:00.000Z").map(nodes.String))
schemathesis.graphql.scalar("EventCursor", st.text(max_size=120).map(nodes.String))


@schemathesis.check
def is_done_or_refused(ctx, response, case) -> None:
    assert response.status_code in STATUSES, f"status {response.status_code}"
    answer = response.json()
    assert "data" in answer or answer.get("errors"), "neither data nor errors"
    for error in answer.get("errors", []):
        code = error.get("extensions", {}).get("code")
        assert code in CODES, f"{code} is not in the catalogue: {error}"
        assert code not in BROKEN, f"{error}"
        assert all(place["line"] > 0 and place["column"] > 0 for place in error.get("locations", [])), f"{error}"
    for payload in (answer.get("data") or {}).values():
        if not isinstance(payload, dict) or "userErrors" not in payload:
            continue
        entities = [value for name, value in payload.items() if name not in ("userErrors", "__typename")]
        if payload["userErrors"]:
            assert not any(entities), f"user errors beside an entity: {payload}"
