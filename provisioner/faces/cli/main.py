"""The `provision` command: the group of all commands; it reports every error as lines and an exit code."""

import errno
import io
import os
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

from provisioner.core.errors import ProvisionError
from provisioner.core.views.api import DISTRIBUTION
from provisioner.faces.cli import exits
from provisioner.faces.cli.catalog import Commands
from provisioner.faces.cli.terminal import streams
from provisioner.faces.cli.terminal.colours import When, choose

#: errno values of a file that cannot be written or read: they are reported without a traceback (errno(3)).
DISK = frozenset(
    (
        errno.EACCES,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOSPC,
        errno.EPERM,
        errno.EROFS,
    )
)

#: `\b` makes typer keep the line breaks.
EPILOG = (
    "\b\nIf a command waits for a run that succeeded or failed, it exits as the job.\nOther exit codes:\n"
    + "\n".join(f"  {code:<3}  {meaning}" for code, meaning in exits.MEANING.items())
)

NAME = "provision"
#: The variable with which a shell requests completions; typer derives it from the name.
COMPLETION = "_PROVISION_COMPLETE"

app = typer.Typer(
    name=NAME,
    cls=Commands,
    help="Serverless GPU jobs on EC2. Each run gets a new machine, which is terminated when the run ends.",
    epilog=EPILOG,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    settings: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Settings file.  [default: $PROVISION_SETTINGS, ./provision.toml, ~/.config/provision/settings.toml]",
        ),
    ] = "",
    color: Annotated[
        When, typer.Option(help="Use colours; auto: on a terminal, unless NO_COLOR is set.", show_default=True)
    ] = When.AUTO,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    context.obj |= {"settings": settings or None, "debug": debug}
    choose(color)
    if version:
        from importlib.metadata import version as installed

        print(f"provision {installed(DISTRIBUTION)}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main() -> None:
    """Run the command line of this process, and exit with its code."""
    if COMPLETION in os.environ:
        _complete()
    _stand()
    code = run(sys.argv[1:])
    # If a stream cannot be flushed, Python would exit with 120. Discard the rest, so that the exit code stays.
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    sys.exit(code)


def _complete() -> NoReturn:
    """Print completions for a shell, and exit."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()
    app(prog_name=NAME, obj={})
    sys.exit(0)


def _stand() -> None:
    """Open /dev/null for each standard stream that is closed (`>&-`); else another file would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)
            if opened != number:
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
    # `?` replaces a character that the encoding of the terminal or file does not have.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def run(arguments: list[str]) -> int:
    """Run a command and return its exit code; every error has been printed when this returns."""
    told: dict[str, Any] = {}
    try:
        " ".join(arguments).encode()
    except UnicodeEncodeError:
        streams.complain("an argument is not UTF-8 text")
        return exits.INVALID
    try:
        code = app(args=arguments, prog_name=NAME, standalone_mode=False, obj=told) or 0
        with streams.writing():
            sys.stdout.flush()
        return code
    except streams.OutputLost as error:
        streams.discard_output()
        streams.complain(f"standard output cannot be written: {error}")
        return exits.RETRY
    except typer.Exit as exit:
        return exit.exit_code
    except (typer.Abort, KeyboardInterrupt):
        streams.say("interrupted; `provision runs` lists runs that were started")
        return exits.DETACHED
    except (BrokenPipeError, SystemExit):
        # Typer exits if standard output has no reader any more. Discard the output, which the interpreter would fail to
        # flush at exit.
        streams.discard_output()
        return exits.UNREAD
    except typer.TyperException as error:
        context, text = getattr(error, "ctx", None), error.format_message().rstrip(".").replace("Value error, ", "")
        where = f" (see `{context.command_path} --help`)" if context else ""
        if text.endswith(("--debug", "--settings")):
            where = " here; it goes before the command"
        streams.complain(f"{text}{where}")
        return exits.INVALID
    except Exception as error:  # noqa: BLE001 - for any error, the user gets a line and not a traceback
        if told.get("debug"):
            for line in traceback.format_exc().splitlines():
                streams.say(line)
        if isinstance(error, ProvisionError):
            streams.complain(str(error))
        elif isinstance(error, OSError) and error.errno in DISK:
            # An error without a file name comes from standard output.
            streams.complain(f"{error.filename or 'standard output'}: {error.strerror}")
            return exits.RETRY
        else:
            streams.complain(f"a bug in provision: {error!r}; `provision --debug …` prints the traceback")
        return exits.of_error(error)


if __name__ == "__main__":
    main()
