#!/usr/bin/env bash
# vuln.sh: what is known to be wrong with our dependencies and reached by our
# code. Where the database is out of reach it says so and checks nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=v1.9.0
db=${GOVULNDB:-https://vuln.go.dev}
if ! curl -fsS -m 10 -o /dev/null "$db/index/db.json"; then
  echo "vuln: $db is not reachable from here: NOT CHECKED"
  exit 0
fi
exec go run "golang.org/x/vuln/cmd/govulncheck@$version" -db "$db" ./...
