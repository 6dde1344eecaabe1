"""Asks a moderation server as users of OpenAI's client do: only the base URL is another one."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0)

one = client.moderations.create(model="omni-moderation-latest", input="I will kill you")
assert one.results[0].flagged and one.results[0].categories.violence, one
assert one.results[0].category_scores.violence == 0.9, one
assert one.results[0].categories.self_harm_intent is False, one
assert one.results[0].categories.illicit_violent is False, one
assert one.results[0].category_applied_input_types.violence == ["text"], one
assert one.results[0].aegis["action"] == "block", one

several = client.moderations.create(input=["hello", "I will kill you"])
assert [result.flagged for result in several.results] == [False, True], several

parts = client.moderations.create(input=[{"type": "text", "text": "hello"}])
assert not parts.results[0].flagged, parts

try:
    client.moderations.create(
        input=[{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    )
    raise AssertionError("an image was judged")
except openai.BadRequestError as error:
    assert error.code == "image_not_supported" and error.param == "input", error

try:
    openai.OpenAI(base_url=sys.argv[1], api_key="wrong", max_retries=0).moderations.create(input="hello")
    raise AssertionError("a wrong key was accepted")
except openai.AuthenticationError as error:
    assert error.code == "invalid_api_key", error

print("python", openai.__version__)
