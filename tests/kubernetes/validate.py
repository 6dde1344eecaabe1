"""Validates manifests of Kubernetes, or a document against a JSON Schema.

    validate.py manifests VERSION...   reads YAML documents, and checks each against the strict schemas of these versions
    validate.py schema FILE            reads one JSON document, and checks it against this JSON Schema

Both read standard input. The first prints the documents as one JSON list, for further checks. A problem is a line on
standard error, and the exit status is then 65."""
import json
import re
import sys

import jsonschema
import kubernetes_validate
import yaml


def custom_schemas():
    """Returns (apiVersion, kind) -> JSON Schema of the custom resources that the chart has."""
    from cloudcoil.models.keda import v1alpha1 as keda
    from cloudcoil.models.prometheus_operator import v1 as monitoring

    models = {
        ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
        ("monitoring.coreos.com/v1", "ServiceMonitor"): monitoring.ServiceMonitor,
        ("monitoring.coreos.com/v1", "PrometheusRule"): monitoring.PrometheusRule,
    }
    return {key: strict(model.model_json_schema(by_alias=True)) for key, model in models.items()}


def strict(schema):
    """Refuses members that a schema does not have. API servers drop them without a word."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema["additionalProperties"] = False
        for value in schema.values():
            strict(value)
    elif isinstance(schema, list):
        for value in schema:
            strict(value)
    return schema


def problem(document, error):
    place = "/".join(str(part) for part in error.absolute_path)
    name = document.get("metadata", {}).get("name")
    return f"{document.get('kind')} {name}: {place}: {error.message[:400]}"


def manifests(versions):
    documents = [one for one in yaml.safe_load_all(sys.stdin) if one is not None]
    custom, problems = None, []
    for document in documents:
        key = (document["apiVersion"], document["kind"])
        if re.match(r"^(v1|apps/|batch/|policy/|autoscaling/|networking\.k8s\.io/)", key[0]):
            for version in versions:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    problems.append(f"{problem(document, error)} (Kubernetes {version})")
            continue
        custom = custom or custom_schemas()
        if key not in custom:
            problems.append(f"{key[1]} of {key[0]}: there is no schema for it")
            continue
        validator = jsonschema.Draft202012Validator(custom[key])
        problems.extend(problem(document, error) for error in validator.iter_errors(document))
    json.dump(documents, sys.stdout)
    return problems


def schema(path):
    document = json.load(sys.stdin)
    with open(path, encoding="utf-8") as file:
        rules = json.load(file)
    found = jsonschema.validators.validator_for(rules)(rules).iter_errors(document)
    return [f"{'/'.join(str(part) for part in one.absolute_path)}: {one.message[:400]}" for one in found]


if __name__ == "__main__":
    found = manifests(sys.argv[2:]) if sys.argv[1] == "manifests" else schema(sys.argv[2])
    for line in found:
        print(line, file=sys.stderr)
    sys.exit(65 if found else 0)
