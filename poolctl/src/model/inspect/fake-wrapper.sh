#!/bin/sh
# Stands in for `model-wrapper inspect`: each path says by its name what is to happen.
shift 4
for path; do
    case $path in
    *leaves*) sleep 600 & echo $! >"$CHILD" ;;
    esac
    case $path in
    *crash*) echo "reading $path" >&2; echo "boom" >&2; kill -SEGV $$ ;;
    *hang*) exec sleep 600 ;;
    *garbage*) echo "not JSON" ;;
    *bad*) echo "{\"path\": \"$path\", \"error\": \"no such operator\"}" ;;
    *) echo "{\"path\": \"$path\", \"digest\": \"sha256:00\", \"metadata\": {\"name\": \"$path\"}}" ;;
    esac
done
