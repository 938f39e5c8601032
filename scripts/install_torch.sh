#!/bin/sh
# Install torch (and what has to match it) the small way: the CPU build where there is no NVIDIA GPU.
#
#   sh scripts/install_torch.sh PYTHON [--upgrade] torch[==VERSION] [torchvision[==VERSION]]
#
# On Linux the default torch wheel carries CUDA (a 6 GB environment); PyTorch's CPU index has one of about 1 GB. Without a
# network path to that index (a mirror of PyPI only) the default wheel is taken. torch and torchvision of two builds, or of
# versions that do not belong together, install without complaint and fail to import: so the import is what decides.
set -eu
python=$1
shift
upgrade=
if [ "$1" = --upgrade ]; then
    upgrade=--upgrade
    shift
fi
cpu_index=https://download.pytorch.org/whl/cpu

install() {
    "$python" -m pip install -qq --disable-pip-version-check --no-compile $upgrade "$@"
}

# both the import and the version decide
usable() {
    for package; do "$python" -c "import ${package%%=*}" 2>/dev/null || return 1; done
    "$python" -m pip install -qq --disable-pip-version-check --no-index --no-deps "$@" 2>/dev/null
}

# one index alone: a second index in pip's settings may hold the CPU build of torch and not of torchvision
install_from_one_index() {
    index=${PIP_INDEX_URL:-$("$python" -m pip config get global.index-url 2>/dev/null || echo https://pypi.org/simple)}
    env -u PIP_EXTRA_INDEX_URL -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null \
        "$python" -m pip install -qq --disable-pip-version-check --no-compile --index-url "$index" --force-reinstall "$@"
}

if [ -z "$upgrade" ] && usable "$@"; then
    exit 0
fi
if [ "$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then
    echo "$*: trying the CPU build from $cpu_index"
    if install --retries 0 --timeout 10 --index-url "$cpu_index" "$@" 2>/dev/null && usable "$@"; then
        exit 0
    fi
    echo "$*: the CPU build is not available there; taking the default build (several GB)"
fi
if [ -z "$upgrade" ] && "$python" "$(dirname "$0")/quick_install.py" "$@" && usable "$@"; then
    exit 0
fi
install "$@"
usable "$@" && exit 0
install --upgrade --force-reinstall "$@"
usable "$@" && exit 0
install_from_one_index "$@"
usable "$@" || { echo "$* were installed but cannot be imported together" >&2; exit 1; }
