#!/usr/bin/env bash
# Regenerates the committed Python code of every .proto file: protos/generate.sh [OUT]
# The generator is pinned and runs in an environment of its own, because grpcio-tools insists on its own
# release of protobuf. PROTOC_PYTHON names a Python that already has it.
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-.}"
python="${PROTOC_PYTHON:-}"
if test -z "$python"; then
  tools="$(mktemp -d)"
  trap 'rm -rf "$tools"' EXIT
  "${PYTHON:-python3}" -m venv "$tools"
  "$tools/bin/python" -m pip install --quiet --disable-pip-version-check grpcio-tools==1.80.0
  python="$tools/bin/python"
fi
"$python" -m grpc_tools.protoc -I protos --python_out="$out" --pyi_out="$out" protos/mpcpriv/v1/*.proto
