# bash completion for kage-mesh
_kage_mesh() {
  # Words as they were typed: bash's own end at ':', which models' names have.
  local line=${COMP_LINE:0:COMP_POINT} cur=
  local -a words
  read -ra words <<<"$line"
  if [[ $line != *[[:space:]] ]]; then
    cur=${words[${#words[@]}-1]}
    words=("${words[@]:0:${#words[@]}-1}")
  fi
  local IFS=$'\n'
  COMPREPLY=($("${words[0]}" __complete "=$cur" "${words[@]:1}" 2>/dev/null))
  # What is before the last ':' stands in the line already.
  if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}")
  fi
}
complete -o default -F _kage_mesh kage-mesh
