# Sourced by the set-up scripts: a virtual environment with uv in it, and where uv gets packages from.
# Answers to "which package, from where" come from pip's and uv's own settings and stay in force;
# these would send packages elsewhere than there, or ask for more than the pins allow.
unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_PYTHON PIP_CONSTRAINT PIP_REQUIREMENT PIP_EDITABLE \
    PIP_REQUIRE_VIRTUALENV PIP_NO_DEPS PIP_NO_BINARY PIP_ONLY_BINARY PIP_DRY_RUN PIP_IGNORE_INSTALLED \
    PIP_NO_BUILD_ISOLATION PIP_QUIET PIP_REPORT PIP_PRE PIP_UPGRADE \
    UV_SYSTEM_PYTHON UV_PYTHON UV_TARGET UV_PREFIX UV_CONSTRAINT UV_OVERRIDE UV_EXCLUDE UV_BUILD_CONSTRAINT \
    UV_REQUIRE_HASHES UV_NO_VERIFY_HASHES UV_NO_BINARY UV_NO_BUILD UV_ONLY_BINARY UV_PRERELEASE UV_RESOLUTION \
    UV_EXCLUDE_NEWER UV_NO_BUILD_ISOLATION UV_BREAK_SYSTEM_PACKAGES UV_NO_SOURCES UV_PYTHON_PREFERENCE \
    UV_DRY_RUN UV_TORCH_BACKEND \
    PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE VIRTUAL_ENV CONDA_PREFIX 2>/dev/null || true

SUPPORTED="3.13 3.12 3.11"  # newest first; NetHack's package has no build for newer ones

# $1: an interpreter. Whether it runs (a shim of pyenv may not) and is supported; $2: packages that it must have.
is_supported() {
    "$1" -c "import sys, sysconfig${2:+, $2}
version = '%d.%d' % sys.version_info[:2]
sys.exit(version not in '$SUPPORTED'.split() or bool(sysconfig.get_config_var('Py_GIL_DISABLED')))" >/dev/null 2>&1 </dev/null
}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

# Interpreters to try, newest first: those on the path, then pyenv's, whose shims run one version alone.
candidates() {
    for version in $SUPPORTED; do
        echo "python$version"
        for folder in "${PYENV_ROOT:-${HOME-}/.pyenv}/versions/$version".*; do
            echo "$folder/bin/python"
        done
    done
    echo python3
    echo python
}

# $1: the interpreter to use, if not the newest supported one.
find_python() {
    if [ -n "$1" ] && ! is_supported "$1"; then
        echo "$1 is not a Python 3.11, 3.12 or 3.13 that runs; name another: make PYTHON=/path/to/python3.13" >&2
        exit 2
    fi
    found=$(if [ -n "$1" ]; then echo "$1"; else candidates; fi | while read -r candidate; do
        if is_supported "$candidate" "ensurepip, venv"; then
            echo "$candidate"
            break
        elif is_supported "$candidate"; then
            echo "$candidate has no venv module" >&2
        fi
    done)
    if [ -z "$found" ]; then
        echo "Python 3.11, 3.12 or 3.13 with its venv module is missing; install it (Debian and Ubuntu:" \
            "python3.11 and python3.11-venv, or the same of 3.12 or 3.13; macOS: brew install python@3.13) or name" \
            "it: make PYTHON=/path/to/python3.13" >&2
        exit 2
    fi
    echo "$found"
}

# $1: the folder; $2: the interpreter to use, if not the newest supported one. Prints two steps of four.
make_environment() {
    python=$(find_python "$2")
    if [ "$(version_of "$1/bin/python")" != "$(version_of "$python")" ] ||
        ! "$1/bin/python" -m pip --version >/dev/null 2>&1; then
        echo "[1/4] making $1 with $("$python" --version)"
        "$python" -m venv --clear "$1"
    else
        echo "[1/4] $1 is there"
    fi
    echo "[2/4] uv, the installer"
    "$1/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        -r infra/requirements/uv.txt
    use_pip_settings_of "$1/bin/python"
}

# uv does not read pip's settings (files or PIP_*): pass on where packages come from, unless it has its own.
pass_on() {
    value=$(echo "$pip_settings" | sed -n "s/^[a-z:]*\.$2='\(.*\)'\$/\1/p" | tail -n 1)
    if [ -n "$value" ]; then
        eval "export $1=\"\${$1:-\$value}\""
    fi
}

# $1: an interpreter with pip.
use_pip_settings_of() {
    pip_settings=$("$1" -m pip config list)
    pass_on UV_DEFAULT_INDEX index-url
    pass_on UV_INDEX extra-index-url
    pass_on UV_FIND_LINKS find-links
    pass_on UV_NO_INDEX no-index
    pass_on SSL_CERT_FILE cert
    pass_on UV_HTTP_TIMEOUT timeout
    pass_on HTTPS_PROXY proxy
}

# $1: an interpreter; what follows: modules, which are compiled here with all that they import: a learner starts a
# dozen processes, each of which would compile for seconds. To compile all that is installed takes four times as long.
# What cannot be imported here is reported by the command that needs it.
compile_imports() {
    interpreter=$1
    shift
    "$interpreter" -c 'import contextlib, importlib, sys
for module in sys.argv[1:]:
    with contextlib.suppress(Exception):
        importlib.import_module(module)' "$@" >/dev/null 2>&1 || true
}
