# Sourced by the set-up scripts: which package comes from where is the machine's own business.
# Answers to "which package, from where" come from pip's and uv's own settings and stay in force;
# these would send packages elsewhere than .venv, or ask for more than the pins allow.
unset PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER PIP_PYTHON PIP_CONSTRAINT PIP_REQUIREMENT PIP_EDITABLE \
    PIP_REQUIRE_VIRTUALENV PIP_NO_DEPS PIP_NO_BINARY PIP_ONLY_BINARY PIP_DRY_RUN PIP_IGNORE_INSTALLED \
    PIP_NO_BUILD_ISOLATION PIP_QUIET PIP_REPORT PIP_PRE PIP_UPGRADE \
    UV_SYSTEM_PYTHON UV_PYTHON UV_TARGET UV_PREFIX UV_CONSTRAINT UV_OVERRIDE UV_EXCLUDE UV_BUILD_CONSTRAINT \
    UV_REQUIRE_HASHES UV_NO_VERIFY_HASHES UV_NO_BINARY UV_NO_BUILD UV_ONLY_BINARY UV_PRERELEASE UV_RESOLUTION \
    UV_EXCLUDE_NEWER UV_NO_BUILD_ISOLATION UV_BREAK_SYSTEM_PACKAGES UV_NO_SOURCES UV_PYTHON_PREFERENCE \
    UV_DRY_RUN UV_TORCH_BACKEND \
    PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX 2>/dev/null || true

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
