#!/bin/sh
# Known vulnerabilities of the pinned packages (constraints.txt), and a bill of materials in dist.
# usage: audit.sh PYTHON
set -eu
python=$1
cd "$(dirname "$0")/.."
folder=build/audit
mkdir -p dist
[ -x $folder/bin/python ] || "$python" -m venv $folder
$folder/bin/python -m pip install -q pip-audit cyclonedx-bom
$folder/bin/cyclonedx-py environment "$python" --pyproject pyproject.toml \
  --output-reproducible -o dist/activsparse.cdx.json
echo "bill of materials: dist/activsparse.cdx.json"
status=0
$folder/bin/pip-audit -r constraints.txt --no-deps --disable-pip > $folder/found.txt 2>&1 || status=$?
# Some mirrors of the registry know no vulnerabilities; they answer that every package is unknown.
unknown=$(grep -c "could not be audited" $folder/found.txt || true)
if [ "$unknown" -ge "$(grep -c '==' constraints.txt)" ] \
  || grep -qE "ConnectionError|Max retries|Failed to (connect|establish)" $folder/found.txt
then
  echo "not audited: the database of vulnerabilities cannot be reached" >&2
  exit 0
fi
cat $folder/found.txt
exit $status
