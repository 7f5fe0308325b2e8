# Sourced by the presets. `fit DEFAULT_INPUT FLAGS... -- "$@"` fits the first argument after -- unless it is a flag, else
# DEFAULT_INPUT. The other arguments are further flags, which win. Relative paths start at the folder you are in. The
# results go to results/NAME/PRESET of the checkout, such as results/impeller/high, unless --outputDir is given: NAME is
# that of the input without its suffix, so that no preset replaces what another one made of the same part.
root=$(CDPATH= cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python
if [ ! -x "$python" ]; then
  python=python3
  # Looking for the package is enough; importing it would take a second.
  if ! "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' 2>/dev/null; then
    echo "${0##*/}: no environment yet; run 'make setup' in $root first" >&2
    exit 1
  fi
fi

fit() {
  local input=$1 flags=()
  shift
  while [ "$1" != -- ]; do flags+=("$1"); shift; done
  shift
  if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then input=$1; shift; fi
  case $input in "$root"/data/geometry_200*) make_geometry_200 ;; esac
  local name=$input preset=${0##*/} output
  if [ -d "$input" ]; then name=$(CDPATH= cd "$input" && pwd); fi
  name=${name##*/}
  if [ -f "$input" ]; then name=${name%.*}; fi
  output=$root/results/$name/${preset%.sh}
  # Paths below the folder you are in are shown as you would write them.
  exec "$python" "$root/trainer.py" "${input#"$PWD"/}" --outputDir "${output#"$PWD"/}" "${flags[@]}" "$@"
}

# Makes data/geometry_200 if it is missing, which takes some seconds. It is made under another name and then renamed, so
# that an interrupted run leaves no half-made folder under this name.
make_geometry_200() {
  local folder=$root/data/geometry_200
  [ -d "$folder" ] && return
  "$python" "$root/data/make_geometry_200.py" --out "$folder.$$" >&2
  [ -d "$folder" ] || mv "$folder.$$" "$folder"
}
