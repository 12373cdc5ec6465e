#!/bin/sh
# The whole application: a web page that tells which container served it.
trap 'echo "told to stop"; exit 0' TERM INT
port=${PORT:-8000}
mkdir -p /tmp/www
echo "${GREETING:-Hello} from $(hostname)" >/tmp/www/index.html
httpd -f -p "$port" -h /tmp/www &
echo "$(hostname) serves on port $port"
wait $! # for the server, or for the signal
