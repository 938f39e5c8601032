#!/bin/sh
# Install torch (and what has to match it) the small way: the CPU build where there is no NVIDIA GPU.
#
#   sh scripts/install_torch.sh PYTHON torch [torchvision]
#
# On Linux the default torch wheel carries CUDA (a 6 GB environment); PyTorch's CPU index has one of about 1 GB. Without a
# network path to that index (a mirror of PyPI only) the default wheel is taken. What is installed already stays, and its
# companions come from the same index, since a torchvision of the other build fails to import.
set -eu
python=$1
shift
cpu_index=https://download.pytorch.org/whl/cpu
installed=$("$python" -c 'from importlib.metadata import version; print(version("torch"))' 2>/dev/null || true)

case "$installed" in
    *+cpu) want=cpu ;;
    "") if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then want=cpu; else want=default; fi ;;
    *) want=default ;;
esac

if [ "$want" = cpu ]; then
    echo "torch: trying the CPU build from $cpu_index"
    if "$python" -m pip install -qq --disable-pip-version-check --retries 0 --timeout 10 \
        --index-url "$cpu_index" "$@" 2>/dev/null; then
        exit 0
    fi
    echo "torch: that index cannot be reached; taking the default build (several GB)"
fi
exec "$python" -m pip install -qq --disable-pip-version-check "$@"
