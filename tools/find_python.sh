#!/bin/sh
# Prints the first Python that effnet_tf can be installed for; nothing where there is none.
# It is run, not only looked for: a version manager leaves commands that do not start.
for name in python3 python3.11 python3.12 python3.13 python; do
  path=$(command -v "$name") || continue
  if "$path" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
  then
    echo "$path"
    exit
  fi
done
