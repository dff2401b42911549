# cache.sh, to be sourced: where builds are kept, outside the tree.
# Package realollama knows the same place.
kage_cache=${XDG_CACHE_HOME:-$HOME/.cache}/kage-mesh

# once FILE COMMAND: unless FILE is there, run COMMAND with a new directory as
# its argument and move the file of that name from there into place. Those who
# come meanwhile wait.
once() {
  local file=$1 build=$2 lock into
  [ ! -x "$file" ] || return 0
  mkdir -p "$(dirname "$file")"
  exec {lock}>"$file.lock"
  if command -v flock >/dev/null; then flock "$lock"; fi
  if [ ! -x "$file" ]; then
    into=$(mktemp -d "$(dirname "$file")/.build.XXXXXX")
    if ! "$build" "$into" || ! mv "$into/$(basename "$file")" "$file"; then
      rm -rf "$into"
      return 1
    fi
    rm -rf "$into"
  fi
  exec {lock}>&-
}
