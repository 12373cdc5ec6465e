# Sourced by the scripts: runs one module of scripts/lib under a Python that is new enough.
# The modules use the standard library alone, because on a fresh machine there is nothing else.
# The distribution's own comes first: it is the one that services run under (install.py).

launch() {
    tree=$(dirname "$(dirname "$(readlink -f "$0")")")
    for python in ${PYTHON:-} /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            exec "$python" "$tree/scripts/lib" "$@"
        fi
    done
    echo "$0: no Python of version 3.11 or later was found; install python3 (Debian 12 or" \
        "Ubuntu 24.04 and later have it), or name one: PYTHON=/path/to/python3.12 $0" >&2
    exit 1
}
