#!/bin/sh
# Install torch (and what has to match it) the small way: the CPU build where there is no NVIDIA GPU.
#
#   sh scripts/install_torch.sh PYTHON torch [torchvision]
#
# On Linux the default torch wheel carries CUDA (a 6 GB environment); PyTorch's CPU index has one of about 1 GB. Without a
# network path to that index (a mirror of PyPI only) the default wheel is taken. torch and torchvision of two builds, or of
# versions that do not belong together, install without complaint and fail to import: so the import is what decides.
set -eu
python=$1
shift
cpu_index=https://download.pytorch.org/whl/cpu

install() {
    "$python" -m pip install -qq --disable-pip-version-check "$@"
}

import_all() {
    for package; do "$python" -c "import $package" 2>/dev/null || return 1; done
}

if import_all "$@"; then
    exit 0
fi
if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then
    echo "$*: trying the CPU build from $cpu_index"
    if install --retries 0 --timeout 10 --index-url "$cpu_index" "$@" 2>/dev/null && import_all "$@"; then
        exit 0
    fi
    echo "$*: not to be had there; taking the default build (several GB)"
fi
install "$@"
if ! import_all "$@"; then
    install --upgrade --force-reinstall "$@"
    import_all "$@" || { echo "$* were installed but cannot be imported together" >&2; exit 1; }
fi
