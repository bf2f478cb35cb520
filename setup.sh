# Builds .venv on first use and activates it: `source setup.sh`, in any shell `. ./setup.sh`.
# Nothing here may end the calling shell: no `exit`, no `set -e`.
if [ -n "${BASH_VERSION:-}" ]; then
  # In quotes, as other shells stumble over it even where they do not run it.
  eval '_activsparse_home=${BASH_SOURCE[0]}'
elif [ -n "${ZSH_VERSION:-}" ]; then
  eval '_activsparse_home=${(%):-%x}'
else
  _activsparse_home=./setup.sh # no other shell says which file it reads
fi
_activsparse_home=$(CDPATH='' cd -- "$(dirname -- "$_activsparse_home")" && pwd)
if ! [ -f "$_activsparse_home/setup.sh" ]; then
  echo "setup.sh: this shell does not say where it lies; change to its folder first" >&2
  false
elif make -C "$_activsparse_home" --no-print-directory venv; then
  # shellcheck source=/dev/null
  . "$_activsparse_home/.venv/bin/activate"
else
  echo "setup.sh: make venv failed; the messages above say why" >&2
  false
fi
