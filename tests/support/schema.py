"""Checks JSON against a schema, apart from the program: a JSON list of the differences on standard output.

The first argument is the file of the schema; every line of standard input is a JSON value.
"""
import json
import sys

from jsonschema import Draft202012Validator

with open(sys.argv[1]) as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)
problems = []
for line in sys.stdin:
    for error in validator.iter_errors(json.loads(line)):
        problems.append(f"{error.json_path}: {error.message}"[:300])
json.dump(problems, sys.stdout)
