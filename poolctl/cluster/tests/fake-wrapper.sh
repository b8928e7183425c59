#!/bin/sh
# A replica that speaks the stdout protocol of model-wrapper and serves nothing. FAKE_WRAPPER names its fault.
case "$FAKE_WRAPPER" in
dies-early)
    echo "cannot load the runtime" >&2
    exit 3
    ;;
dies-early-beside-a-child)
    sleep 600 &
    echo "child $!" >&2
    exit 3
    ;;
never-ready)
    exec cat
    ;;
bad-address)
    echo "ready nowhere"
    exec cat
    ;;
ignores-sigterm)
    trap '' TERM
    ;;
with-a-child)
    sleep 600 &
    ;;
with-a-child-that-ignores-sigterm)
    trap '' TERM
    sleep 600 &
    ;;
esac
echo "admin http://127.0.0.1:1"
echo "metrics http://127.0.0.1:2"
echo "ready http://127.0.0.1:3"
# As --exit-on-stdin-close: the end of stdin is the parent's death. `cat` gets the ignored signal too.
exec cat
