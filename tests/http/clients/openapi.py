"""Validates /openapi.json, and real answers and refusals against it."""

import json
import sys
import urllib.error
import urllib.request

import jsonschema
import openapi_spec_validator

base, key = sys.argv[1:3]


def send(path, body=None, key=key):
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


status, document = send("/openapi.json")
assert status == 200
openapi_spec_validator.validate(document)


def valid(schema, value):
    # References point into the document.
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def content(part):
    return part["content"]["application/json"]["schema"]


user = {"role": "user", "content": "hello"}
text = {"type": "text", "text": "I will kill you"}
bodies = {
    "/v1/moderations": [{"input": "I will kill you"}, {"input": ["a", "b"], "model": "x"}, {"input": [text]}],
    "/v1/decisions": [{"text": "hello"}, {"id": "e1", "turns": [{"role": "user", "text": "I will kill you"}]}],
    "/beta/litellm_basic_guardrail_api": [
        {"texts": ["hello"], "input_type": "request", "request_data": {}},
        {"texts": ["I will kill you"], "input_type": "response", "images": None},
    ],
    "/request": [{"body": {"messages": [user]}}, {"body": {"messages": [{"role": "user", "content": [text]}]}}],
    "/response": [{"body": {"choices": [{"message": {"role": "assistant", "content": "I will kill you"}}]}}],
    "/v1/checks": [{"model": "x", "messages": [user, {"role": "assistant", "content": None}]}],
    "/v1/guardrail/checks": [{"messages": [user]}],
}
assert sorted(bodies) == sorted(document["paths"]), "every endpoint is asked"
for path, requests in bodies.items():
    operation = document["paths"][path]["post"]
    for body in requests:
        valid(content(operation["requestBody"]), body)
        status, answer = send(path, body)
        assert status == 200, (path, status, answer)
        valid(content(operation["responses"]["200"]), answer)
    for status, refusal in [send(path, []), send(path, requests[0], key="wrong"), send(path), send(path + "/absent")]:
        valid(content(operation["responses"][str(status)]), refusal)
        try:
            valid(content(operation["responses"]["200"]), refusal)
        except jsonschema.ValidationError:
            continue
        raise AssertionError(f"{path}: a refusal is valid as an answer")
print("openapi", document["openapi"])
