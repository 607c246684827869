"""Explain errors of the Hugging Face Hub: what happened and which command fixes it; a token is never shown."""

import contextlib
import os
import re
from collections.abc import Iterable

from common.core.errors import nearest

# In the order in which huggingface_hub reads them: the first that is set counts.
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_NO_IMPLICIT = "HF_HUB_DISABLE_IMPLICIT_TOKEN"


def explain(
    error: BaseException, repo: str, revision: str, fetch: str, dataset: bool = False, known: Iterable[str] = ()
) -> str:
    """Return why a file of a Hub repository could not be loaded, and which command fixes it.

    Args:
        error: an exception of huggingface_hub, or one that was raised from it.
        repo: the repository's id.
        revision: the branch, tag or commit that was requested.
        fetch: the command that downloads the repository on a machine with internet.
        dataset: whether the repository is a dataset, not a model.
        known: ids that the user may have meant.

    Returns:
        One or more sentences, ending with a full stop.

    Source: the classes and headers are those of huggingface_hub/utils/_http.py, `hf_raise_for_status`.
    """
    from huggingface_hub import constants, errors
    from huggingface_hub.utils import httpx

    chain = _causes(error)
    kind, page = ("dataset", f"datasets/{repo}") if dataset else ("model", repo)
    page = f"https://huggingface.co/{page}"
    elsewhere = f"where there is internet, `{fetch}`; then copy the folder HF_HOME (~/.cache/huggingface) here"
    unreachable = (errors.LocalEntryNotFoundError, errors.RevisionResolutionError, ConnectionError)
    if constants.is_offline_mode() and _first(chain, unreachable):
        return (
            "it is not in this machine's cache, and HF_HUB_OFFLINE is set. If this machine has internet, unset "
            f"HF_HUB_OFFLINE; if not: {elsewhere}."
        )
    if any(isinstance(link, UnicodeEncodeError | httpx.LocalProtocolError) for link in chain) and _token_source():
        return f"{_token_source()} contains characters that no token has, such as a line break. {_renewal()}."
    answer = _first(chain, errors.HfHubHTTPError)
    if answer is not None:
        return _explain_response(answer, repo, revision, kind, page, known)
    if _first(chain, (httpx.HTTPError, *unreachable)):
        what = _first(chain[::-1], (httpx.HTTPError, OSError))
        return (
            f"the Hub at {constants.ENDPOINT} cannot be reached, or the connection was interrupted "
            f"({type(what).__name__}). Try again; check the network, HTTPS_PROXY and HF_ENDPOINT. Without internet: "
            f"{elsewhere}."
        )
    return first_line(error)


_NEW_VALUE = "HF_TOKEN=<a token of https://huggingface.co/settings/tokens>"


def _login() -> str:
    """Return what makes the library send a token, where it sends none."""
    from huggingface_hub import constants

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return f"unset {_NO_IMPLICIT}, which keeps every token from being sent"
    return f"`hf auth login`, or {_NEW_VALUE}"


def _renewal() -> str:
    """Return how to replace a token that the Hub rejects; the variables come before what `hf auth login` saves."""
    if any(map(os.environ.get, _VARIABLES)):
        return f"Set a new one ({_NEW_VALUE}), or unset it and run `hf auth login`"
    return f"Set a new one: {_login()}"


def _explain_response(
    error: BaseException, repo: str, revision: str, kind: str, page: str, known: Iterable[str]
) -> str:
    """Return what an answer of the Hub with an error status means; `error` is an `HfHubHTTPError`."""
    from huggingface_hub import errors

    status = error.response.status_code  # type: ignore[attr-defined]
    if isinstance(error, errors.EntryNotFoundError):
        return f"one of its files does not exist: {first_line(error)}"
    if status == 401 and _token_source():
        # Without a token, 401 can also mean "no such repository"; with one, the token is the cause.
        return f"{_token_source()} is wrong or has expired: the Hub rejects it (401). {_renewal()}."
    if isinstance(error, errors.GatedRepoError):
        if _token_source():
            return (
                f"this {kind} is gated, and the account of your token ({_token_source()}) has no access. Accept its "
                f"licence at {page} with that account (a fine-grained token also needs the right to read gated "
                "repositories)."
            )
        return f"this {kind} is gated, and no token is sent. Accept its licence at {page}, then {_login()}."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the Hub has this {kind}, but not the revision '{revision}'. Branches and tags: {page}/tree/main."
    if isinstance(error, errors.RepositoryNotFoundError):
        private = "your token cannot read it" if _token_source() else f"no token is sent: {_login()}"
        return (
            f"the Hub has no {kind} '{repo}'{nearest(repo, known) or '.'} Or the repository is private, and {private}."
        )
    if isinstance(error, errors.DisabledRepoError):
        return f"the Hub has disabled this {kind}: {page}."
    if status == 403:
        return f"the Hub forbids it (403): your token ({_token_source() or 'none'}) lacks the right to read {page}."
    if status == 429:
        return f"the Hub received too many requests (429). Wait some minutes; signing in raises the limit: {_login()}."
    return f"the Hub answered {status}. Type the same command again later; https://status.huggingface.co shows outages."


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened, with tokens replaced by "<token>"."""
    line = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())
    for secret in (_sent_token(), *" ".join(os.environ.get(name, "") for name in _VARIABLES).split()):
        line = line.replace(secret, "<token>") if secret else line
    return re.sub(r"hf_\w{6,}|(?<=Bearer ).+", "<token>", line)[:300].rstrip(".") + "."


def _token_source() -> str:
    """Return the name of the variable or file that the sent token comes from, "" when no token is sent.

    Source: huggingface_hub/utils/_auth.py, `get_token`, and _headers.py, `get_token_to_send`.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN or not _sent_token():
        return ""
    return next((name for name in _VARIABLES if os.environ.get(name)), f"the token saved in {constants.HF_TOKEN_PATH}")


def _sent_token() -> str | None:
    from huggingface_hub import errors, get_token

    with contextlib.suppress(errors.OIDCError):  # HF_OIDC_RESOURCE is set, and the exchange for a token failed
        return get_token()
    return None


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return an exception and the exceptions that it was raised from, outermost first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _first(
    chain: list[BaseException], kinds: type[BaseException] | tuple[type[BaseException], ...]
) -> BaseException | None:
    return next((link for link in chain if isinstance(link, kinds)), None)
