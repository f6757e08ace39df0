#!/bin/sh
# A container's command: lays out the working folder ($CXR_SERVER), which may be empty, and becomes the gateway.
set -eu
code=$(dirname "$(dirname "$(readlink -f "$0")")")
cd "$CXR_SERVER"
mkdir -p logs model_store/live
ln -sfn "$code/workflows" workflows # config.properties names a file in it
ln -sf /etc/cxr-cascade/config.properties config.properties
# What is packed stays where it is; a start of the gateway copies it to model_store/live, which is what is served.
find model_store -maxdepth 1 -type l -delete
find -L /models -maxdepth 1 -type f -exec ln -sf -t model_store {} +
cd "$code"
exec .venv/bin/python -m gateway "$@"
