"""What goes wrong with the Hugging Face Hub, in words: what was found and what mends it, never the token's value."""

import contextlib
import os
import re
from collections.abc import Iterable

from common.core.errors import nearest

# Variables in the library's order: the first that is set counts.
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_UNSENT = "HF_HUB_DISABLE_IMPLICIT_TOKEN"


def reason(
    error: BaseException, repo: str, revision: str, fetch: str, dataset: bool = False, known: Iterable[str] = ()
) -> str:
    """Say why something of a Hub repository could not be loaded, and which command mends it.

    Args:
        error: of huggingface_hub, or of a library that raised it because of one.
        repo: the repository's id.
        revision: branch, tag or commit that was asked for.
        fetch: the command that downloads it on a machine with internet.
        dataset: whether the repository is a data set, not a model.
        known: ids that the user may have meant.

    Source: the classes and headers are those of huggingface_hub/utils/_http.py, `hf_raise_for_status`.
    """
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import httpx

    chain = _chain(error)
    kind, page = ("data set", f"datasets/{repo}") if dataset else ("model", repo)
    page = f"https://huggingface.co/{page}"
    elsewhere = f"where there is internet, `{fetch}`; then copy the folder HF_HOME (~/.cache/huggingface) here"
    unreachable = (errors.LocalEntryNotFoundError, errors.RevisionResolutionError, ConnectionError)
    if constants.is_offline_mode() and _first(chain, unreachable):
        return (
            "it is not in this machine's cache, and HF_HUB_OFFLINE is set. With internet here: unset HF_HUB_OFFLINE. "
            f"Without: {elsewhere}."
        )
    if any(isinstance(link, UnicodeEncodeError | httpx.LocalProtocolError) for link in chain) and _token():
        return f"{_token()} holds characters that no token has, such as a line break. {_renewal()}."
    answer = _first(chain, errors.HfHubHTTPError)
    if answer is not None:
        return _answered(answer, repo, revision, kind, page, known)
    if _first(chain, (httpx.HTTPError, *unreachable)):
        what = _first(chain[::-1], (httpx.HTTPError, OSError))
        return (
            f"the Hub at {constants.ENDPOINT} cannot be reached, or the connection broke off ({type(what).__name__}). "
            f"Try again; check the network, HTTPS_PROXY and HF_ENDPOINT. Without internet: {elsewhere}."
        )
    return first_line(error)


_ANEW = "HF_TOKEN=<a token of https://huggingface.co/settings/tokens>"


def _login() -> str:
    """Return how a token comes to be sent where none is."""
    from huggingface_hub import constants

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return f"unset {_UNSENT}, with which no token is ever sent"
    return f"`hf auth login`, or {_ANEW}"


def _renewal() -> str:
    """Return what mends a token that the Hub does not take; what `hf auth login` saves comes after the variables."""
    if any(map(os.environ.get, _VARIABLES)):
        return f"Set it anew ({_ANEW}), or unset it and `hf auth login`"
    return f"Set a new one: {_login()}"


def _answered(error: BaseException, repo: str, revision: str, kind: str, page: str, known: Iterable[str]) -> str:
    """Say what the Hub's refusal means; `error` is its `HfHubHTTPError`."""
    from huggingface_hub import errors

    status = error.response.status_code  # type: ignore[attr-defined]
    if isinstance(error, errors.EntryNotFoundError):
        return f"a file of it is not there: {first_line(error)}"
    if status == 401 and _token():
        # Without a token, 401 also stands for "no such repository"; with one, it is always the token.
        return f"{_token()} is wrong or has expired: the Hub refuses it (401). {_renewal()}."
    if isinstance(error, errors.GatedRepoError):
        if _token():
            return (
                f"this {kind} is gated, and the account of your token ({_token()}) has no access. Accept its licence "
                f"at {page} with that account (a fine-grained token also needs the right to read gated repositories)."
            )
        return f"this {kind} is gated, and no token is sent. Accept its licence at {page}, then {_login()}."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the Hub has this {kind}, but no revision '{revision}'. Branches and tags: {page}/tree/main."
    if isinstance(error, errors.RepositoryNotFoundError):
        private = "your token may not read it" if _token() else f"no token is sent: {_login()}"
        return f"the Hub has no {kind} '{repo}'{nearest(repo, known) or '.'} Or it is private, and {private}."
    if isinstance(error, errors.DisabledRepoError):
        return f"the Hub has disabled this {kind}: {page}."
    if status == 403:
        return f"the Hub forbids it (403): your token ({_token() or 'none'}) lacks the right to read {page}."
    if status == 429:
        return (
            f"the Hub has had too many requests (429). Wait some minutes, and sign in for a higher limit: {_login()}."
        )
    return f"the Hub answered {status}. Type the same command again later; https://status.huggingface.co shows outages."


def first_line(error: BaseException) -> str:
    """Return an error's first line, shortened, without anything that looks like a token."""
    line = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
    for secret in (_sent(), *" ".join(os.environ.get(name, "") for name in _VARIABLES).split()):
        line = line.replace(secret, "<token>") if secret else line
    return re.sub(r"hf_\w{6,}|(?<=Bearer ).+", "<token>", line)[:300].rstrip(".") + "."


def _token() -> str:
    """Return where the token that is sent comes from, "" when there is none; never the token.

    Source: huggingface_hub/utils/_auth.py, `get_token`, and _headers.py, `get_token_to_send`.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN or not _sent():
        return ""
    return next((name for name in _VARIABLES if os.environ.get(name)), f"the token saved in {constants.HF_TOKEN_PATH}")


def _sent() -> str | None:
    from huggingface_hub import errors, get_token

    with contextlib.suppress(errors.OIDCError):  # of HF_OIDC_RESOURCE: the exchange for a token has failed
        return get_token()
    return None


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an error and what it was raised from, outermost first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _first(
    chain: list[BaseException], kinds: type[BaseException] | tuple[type[BaseException], ...]
) -> BaseException | None:
    return next((link for link in chain if isinstance(link, kinds)), None)
