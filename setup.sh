# Builds .venv on first use and activates it: `source setup.sh`, in bash or zsh.
# Nothing here may end the calling shell: no `exit`, no `set -e`.
_activsparse_setup() {
  local here
  if [ -n "${ZSH_VERSION:-}" ]; then
    here="$(cd "$(dirname "${(%):-%x}")" && pwd)"
  else
    here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
  fi
  make -C "$here" --no-print-directory venv || {
    echo "setup.sh: make venv failed; the messages above say why" >&2
    return 1
  }
  . "$here/.venv/bin/activate"
}
_activsparse_setup
